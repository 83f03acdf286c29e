import { describe, expect, it } from "vitest";
import { CellIndex, type Ring } from "../src/pick";

const square = (west: number, south: number): Ring => [
  [west, south],
  [west + 1, south],
  [west + 1, south + 1],
  [west, south + 1],
  [west, south],
];

describe("the cell under a place", () => {
  const cells = Array.from({ length: 100 }, (_, i) => square(i % 10, Math.floor(i / 10)));
  const index = new CellIndex(cells);

  it("is the one whose outline holds it", () => {
    for (let cell = 0; cell < cells.length; cell++) {
      expect(index.find((cell % 10) + 0.5, Math.floor(cell / 10) + 0.5)).toBe(cell);
    }
  });

  it("is none outside of the town", () => {
    expect(index.find(-0.5, 0.5)).toBeNull();
    expect(index.find(10.5, 10.5)).toBeNull();
    expect(new CellIndex([]).find(0, 0)).toBeNull();
  });
});
