import { describe, expect, it } from "vitest";
import { readView, writeView } from "../src/permalink";

describe("the address of a view", () => {
  it("reads back what it wrote", () => {
    const view = {
      layer: "ev_charging",
      endUtcS: Date.UTC(2026, 10, 19, 18, 15) / 1000,
      selection: { kind: "transformer", id: "t03" },
    } as const;
    expect(readView(writeView(view))).toEqual(view);
    expect(readView(writeView({ selection: { kind: "cell", index: 12 } }))).toEqual({
      selection: { kind: "cell", index: 12 },
    });
  });

  it("leaves out what it does not understand", () => {
    expect(readView("#layer=<script>&time=now&cell=-1")).toEqual({});
    expect(readView("")).toEqual({});
  });

  it("holds no data but names", () => {
    expect(writeView({})).toBe("");
  });
});
