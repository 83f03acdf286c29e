import { describe, expect, it } from "vitest";
import { classLabels, classOf, makeScale, NO_DATA, TRANSFORMER_SCALE } from "../src/scale";

describe("a scale", () => {
  const scale = makeScale([0.1, 0.25, 0.5, 1], "cividis");

  it("puts a value into the last class whose lower edge is not above it", () => {
    expect(classOf(scale, 0)).toBe(0);
    expect(classOf(scale, 0.0999)).toBe(0);
    expect(classOf(scale, 0.1)).toBe(1);
    expect(classOf(scale, 0.99)).toBe(3);
    expect(classOf(scale, 1000)).toBe(4);
  });

  it("has a class of its own for no data", () => {
    expect(classOf(scale, null)).toBe(NO_DATA);
    expect(classOf(scale, Number.NaN)).toBe(NO_DATA);
  });

  it("prints its classes with their values", () => {
    expect(classLabels(scale)).toEqual(["< 0.1", "0.1 – 0.25", "0.25 – 0.5", "0.5 – 1", "≥ 1"]);
  });

  it("has a colour of its own for each class", () => {
    expect(new Set(scale.colours.map((colour) => colour.join())).size).toBe(scale.edges.length);
  });

  it("refuses breaks that do not rise", () => {
    expect(() => makeScale([1, 1], "cividis")).toThrow(RangeError);
  });

  it("marks a transformer at 50, 80 and 100 percent", () => {
    expect([49.9, 50, 79.9, 80, 100].map((v) => classOf(TRANSFORMER_SCALE, v))).toEqual([
      0, 1, 1, 2, 3,
    ]);
  });
});
