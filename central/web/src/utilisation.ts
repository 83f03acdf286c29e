/** Utilisation of every transformer over the stored days, and the ranking by peak. */
import { api, type DayUtilisation, type Transformer } from "./api";
import type { Moment } from "./time";

export interface Ranked {
  readonly transformer: Transformer;
  readonly peakPercent: number | null;
}

interface HeldDay {
  readonly version: string;
  readonly rows: ReadonlyMap<string, readonly (number | null)[]>;
}

export class Utilisation {
  readonly #days = new Map<string, HeldDay>();

  has(day: string, version: string): boolean {
    return this.#days.get(day)?.version === version;
  }

  async load(day: string, version: string): Promise<void> {
    if (this.has(day, version)) return;
    this.enter(await api.utilisation(day), day, version);
  }

  enter(found: DayUtilisation, day: string, version: string): void {
    const rows = new Map(found.transformers.map((id, i) => [id, found.percent[i] ?? []]));
    this.#days.set(day, { version, rows });
  }

  /** Percent of rated kVA of one transformer at one moment; null = no data. */
  at(id: string, moment: Moment): number | null {
    return this.#days.get(moment.day)?.rows.get(id)?.[moment.step] ?? null;
  }

  /** Transformers by the highest utilisation of all loaded days; unknown ones last. */
  ranked(transformers: readonly Transformer[]): Ranked[] {
    return transformers
      .map((transformer) => ({ transformer, peakPercent: this.#peak(transformer.id) }))
      .sort(
        (a, b) =>
          (b.peakPercent ?? -1) - (a.peakPercent ?? -1) ||
          a.transformer.id.localeCompare(b.transformer.id),
      );
  }

  #peak(id: string): number | null {
    let peak: number | null = null;
    for (const { rows } of this.#days.values()) {
      for (const value of rows.get(id) ?? []) {
        if (value !== null && (peak === null || value > peak)) peak = value;
      }
    }
    return peak;
  }
}
