/**
 * Fills the side panel for what is selected and keeps it true: a cell's curve follows the
 * shown day, a transformer's follows the stored range as it grows.
 */
import { api, ApiError, type Cell, type Transformer } from "./api";
import type { Selection } from "./permalink";
import type { Moment, Timeline, TownClock } from "./time";
import type { Failures } from "./views/notes";
import type { Panel } from "./views/panel";
import { words } from "./words";

/** What the page shows just now. */
export interface Shown {
  readonly selection: Selection | null;
  readonly moment: Moment | null;
  readonly timeline: Timeline;
  readonly clock: TownClock;
  readonly cells: readonly Cell[];
  readonly transformers: readonly Transformer[];
}

export class Details {
  #selection: Selection | null = null;
  /** Says which answer the panel holds or waits for; a later one makes earlier ones void. */
  #wanted = "";

  constructor(
    readonly panel: Panel,
    readonly failures: Failures,
    readonly shown: () => Shown,
  ) {}

  /** Asks for what is selected, unless the panel holds or awaits just that. */
  async fill(): Promise<void> {
    const shown = this.shown();
    const wanted = wantedOf(shown);
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    const { selection } = shown;
    const changed = selection !== this.#selection;
    this.#selection = selection;
    this.failures.clear("panel");
    if (selection === null) return this.panel.close();
    try {
      if (selection.kind === "transformer") await this.#transformer(selection.id, shown, changed);
      else await this.#cell(selection.index, shown, changed);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.#wanted !== wanted) return;
      this.#wanted = "";
      this.failures.show("panel", error, undefined, () => void this.fill());
    }
  }

  async #transformer(id: string, shown: Shown, changed: boolean): Promise<void> {
    const wanted = this.#wanted;
    const transformer = shown.transformers.find((t) => t.id === id);
    if (!transformer) return this.panel.unknown(id);
    if (changed) this.panel.opening(transformer.name, words.rating(transformer.rated_kva));
    const { firstEndUtcS: first, lastEndUtcS: last } = shown.timeline;
    if (first === null || last === null) return;
    const [record, load, events] = await Promise.all([
      api.assetRecord(id).catch((error: unknown) => {
        if (error instanceof ApiError && error.status === 404) return null;
        throw error;
      }),
      api.transformerLoad(id, first, last),
      api.transformerEvents(id, first),
    ]);
    if (this.#wanted !== wanted) return;
    this.panel.showTransformer(transformer, record, load, events, shown.clock);
    this.#mark();
  }

  async #cell(index: number, shown: Shown, changed: boolean): Promise<void> {
    const wanted = this.#wanted;
    const cell = shown.cells[index];
    if (!cell) return this.panel.unknown(words.cellTitle(index));
    if (changed) {
      this.panel.opening(words.cellTitle(index), words.servicePoints(cell.service_points));
    }
    if (shown.moment === null) return;
    const load = await api.cellLoad(index, shown.moment.day);
    if (this.#wanted !== wanted) return;
    const fedBy = shown.transformers.find((t) => t.id === cell.transformer)?.name ?? null;
    this.panel.showCell(cell, fedBy, load, shown.clock);
    this.#mark();
  }

  #mark(): void {
    const { moment } = this.shown();
    if (moment !== null) this.panel.setMoment(moment.endUtcS);
  }
}

function wantedOf({ selection, moment, timeline }: Shown): string {
  const newest = timeline.lastEndUtcS;
  if (selection === null) return "nothing";
  if (selection.kind === "transformer") return `transformer ${selection.id} to ${newest}`;
  // Only the newest day still grows; the curve of an older one is asked for once.
  const growing = moment !== null && moment.day === timeline.at(timeline.length - 1)?.day;
  return `cell ${selection.index} on ${moment?.day} ${growing ? newest : ""}`;
}
