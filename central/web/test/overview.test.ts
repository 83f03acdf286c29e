import { expect, it } from "vitest";
import type { Cell } from "../src/api";
import type { Block } from "../src/block";
import { townLoad } from "../src/overview";
import { Timeline } from "../src/time";

const cells = [0, 1].map((index) => ({ index, area_km2: 0.5 })) as unknown as Cell[];
const timeline = new Timeline([{ day: "2026-01-01", first_end_utc_s: 900, steps: 3 }], 900, null);

function densities(raw: number[]): Block {
  return { cells: 2, steps: 3, scale: 1, offset: 0, nodata: 65535, raw: new Uint16Array(raw) };
}

it("sums density times area, and says nothing where too few cells are known", () => {
  const block = densities([2, 4, 6, 65535, 65535, 65535]);
  expect(townLoad(timeline, () => block, cells)).toEqual([3, 3, null]);
});

it("says nothing about a day that is not here yet", () => {
  expect(townLoad(timeline, () => null, cells)).toEqual([null, null, null]);
});
