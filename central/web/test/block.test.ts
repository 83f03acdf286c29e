import { describe, expect, it } from "vitest";
import { BlockDamaged, cellsKnown, decodeBlock, highestKnown, valueAt } from "../src/block";

/** A block as the API sends it: header, then [step][cell]. */
function block(cells: number, steps: number, raw: number[], scale = 0.5, offset = -1): ArrayBuffer {
  const bytes = new ArrayBuffer(64 + 2 * cells * steps);
  const view = new DataView(bytes);
  "LSB1".split("").forEach((letter, i) => view.setUint8(i, letter.charCodeAt(0)));
  view.setUint16(4, 1, true);
  view.setUint16(6, 16, true);
  view.setUint32(8, cells, true);
  view.setUint32(12, steps, true);
  view.setFloat64(16, scale, true);
  view.setFloat64(24, offset, true);
  view.setUint16(32, 65535, true);
  raw.forEach((value, i) => view.setUint16(64 + 2 * i, value, true));
  return bytes;
}

describe("a layer's block", () => {
  it("gives each cell's value at each step in the layer's unit", () => {
    const read = decodeBlock(block(3, 2, [0, 1, 2, 10, 20, 65535]));
    expect(valueAt(read, 0, 2)).toBe(0);
    expect(valueAt(read, 1, 0)).toBe(4);
    expect(valueAt(read, 1, 1)).toBe(9);
  });

  it("tells no data from zero", () => {
    const read = decodeBlock(block(2, 1, [65535, 0], 1, 0));
    expect(valueAt(read, 0, 0)).toBeNull();
    expect(valueAt(read, 0, 1)).toBe(0);
    expect(cellsKnown(read, 0)).toBe(1);
  });

  it("knows nothing outside of its steps and cells", () => {
    const read = decodeBlock(block(1, 1, [7]));
    expect(valueAt(read, 1, 0)).toBeNull();
    expect(valueAt(read, 0, 1)).toBeNull();
    expect(valueAt(read, -1, 0)).toBeNull();
    expect(cellsKnown(read, 9)).toBe(0);
  });

  it.each([
    ["is too short for its header", () => block(1, 1, [1]).slice(0, 40)],
    ["is cut", () => block(4, 4, Array(16).fill(1)).slice(0, 80)],
    ["is another file", () => new ArrayBuffer(128)],
  ])("is refused when it %s", (_, bytes) => {
    expect(() => decodeBlock(bytes())).toThrow(BlockDamaged);
  });

  it("is refused when it announces more than the page draws", () => {
    const bytes = block(1, 1, [1]);
    new DataView(bytes).setUint32(8, 4_000_000_000, true);
    expect(() => decodeBlock(bytes)).toThrow(/more than this page draws/);
  });
});

describe("the highest value of a step", () => {
  it("is that of the cells with data", () => {
    const read = decodeBlock(block(3, 2, [4, 65535, 2, 65535, 65535, 65535], 1, 0));
    expect(highestKnown(read, 0)).toBe(4);
    expect(highestKnown(read, 1)).toBeNull();
  });
});
