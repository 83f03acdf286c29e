/** The town over all stored days: the load that the time bar draws. */
import type { Cell } from "./api";
import { valueAt, type Block } from "./block";
import type { Timeline } from "./time";

/**
 * Sum over cells of density x area at each moment, MW; null where fewer than half of the
 * cells are known. `densities` gives the load density block of a day, if it is here.
 */
export function townLoad(
  timeline: Timeline,
  densities: (day: string) => Block | null,
  cells: readonly Cell[],
): (number | null)[] {
  return Array.from({ length: timeline.length }, (_, index) => {
    const moment = timeline.at(index)!;
    const block = densities(moment.day);
    if (block === null) return null;
    let sum = 0;
    let known = 0;
    for (const cell of cells) {
      const value = valueAt(block, moment.step, cell.index);
      if (value === null) continue;
      sum += value * cell.area_km2;
      known += 1;
    }
    return known * 2 >= cells.length ? sum : null;
  });
}
