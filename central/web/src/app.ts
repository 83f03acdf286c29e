/** The page: holds what is shown (layer, time, selection) and tells every view of a change. */
import { api, ApiError, type Catalog, type Cell, type LayerInfo, type Transformer } from "./api";
import { cellsKnown, valueAt } from "./block";
import { Blocks } from "./blocks";
import { describeCell, describeTransformer, summary, type Line } from "./describe";
import { Details } from "./details";
import { h } from "./dom";
import { follow, oneAtATime } from "./live";
import { TownMap, webGl2Works } from "./map";
import { townLoad } from "./overview";
import { readView, writeView, type Selection } from "./permalink";
import { classOf, makeScale, TRANSFORMER_SCALE, type Scale } from "./scale";
import { Player, type Step } from "./player";
import { Timeline, TownClock, type Moment } from "./time";
import { Utilisation } from "./utilisation";
import { Header } from "./views/header";
import { Layers } from "./views/layers";
import { Failures, Spoken, Tooltip, Waiting } from "./views/notes";
import { Panel } from "./views/panel";
import { Ranking } from "./views/ranking";
import { Timebar } from "./views/timebar";
import { share, words } from "./words";

const TOWN_LOAD_LAYER = "load_density";
const MOST_DAYS_OF_TOWN_LOAD = 31;
const WAITING_POLL_MS = 2000;
const ADDRESS_RESTS_MS = 300;
const QUIET_POLL_MS = 30_000;

export class App {
  readonly #header = new Header();
  readonly #failures = new Failures();
  readonly #waiting = new Waiting();
  readonly #tooltip = new Tooltip();
  readonly #spoken = new Spoken();
  readonly #layersView = new Layers((id) => this.chooseLayer(id));
  readonly #ranking = new Ranking((id) => this.select({ kind: "transformer", id }, true));
  readonly #panel = new Panel(() => this.select(null));
  readonly #details = new Details(this.#panel, this.#failures, () => ({
    selection: this.#selection,
    moment: this.#moment,
    timeline: this.#timeline,
    clock: this.#clock,
    cells: this.#cells,
    transformers: this.#transformers,
  }));
  readonly #timebar = new Timebar({
    seek: (index) => this.#leaveLiveAndShow(index),
    play: () => this.setPlaying(!this.#player.playing),
    live: () => this.setLive(!this.#live),
    speed: () => undefined,
  });
  readonly #mapPlace = h("div", { class: "map" });
  readonly #main = h("main", { class: "stage" });
  readonly #player = new Player(
    () => this.#timebar.stepsPerS,
    (due) => this.#playNext(due),
    () => this.setPlaying(false),
  );
  readonly #blocks = new Blocks(() => this.#cells.length);
  readonly #utilisation = new Utilisation();
  #catalog!: Catalog;
  #clock!: TownClock;
  #timeline!: Timeline;
  #map: TownMap | null = null;
  #cells: readonly Cell[] = [];
  #transformers: readonly Transformer[] = [];
  #layer!: LayerInfo;
  #scale!: Scale;
  #moment: Moment | null = null;
  #selection: Selection | null = null;
  #live = true;
  #addressTimer = 0;

  constructor(root: HTMLElement) {
    this.#main.append(
      this.#mapPlace,
      this.#tooltip.element,
      this.#waiting.element,
      this.#failures.element,
    );
    root.append(
      this.#header.element,
      h("nav", { class: "side", "aria-label": words.layer }, this.#layersView.element, this.#ranking.element),
      this.#main,
      this.#panel.element,
      this.#timebar.element,
      this.#header.notices,
      this.#spoken.element,
    );
    document.addEventListener("keydown", (event) => this.#globalKey(event));
    window.addEventListener("hashchange", () => void this.#applyAddress());
  }

  async start(): Promise<void> {
    const catalog = await this.#failures.until("catalog", () => api.catalog());
    this.#takeCatalog(catalog);
    this.#layer = catalog.layers[0]!;
    await this.#startGrid();
    await this.#applyAddress();
    follow({
      connected: () => this.#header.setConnection("connected"),
      lost: () => this.#header.setConnection("reconnecting"),
      news: () => void this.#refresh(),
    });
    this.#poll();
    await this.#refresh();
  }

  chooseLayer(id: string): void {
    const layer = this.#catalog.layers.find((l) => l.id === id) ?? this.#catalog.layers[0]!;
    this.#layer = layer;
    this.#scale = makeScale(layer.breaks, layer.palette);
    this.#layersView.select(layer, this.#scale);
    this.#map?.setColours(this.#scale.colours);
    this.#show();
    this.#writeAddress();
  }

  select(selection: Selection | null, focus = false): void {
    this.#selection = selection;
    this.#map?.setSelection(selection);
    this.#ranking.setSelected(selection?.kind === "transformer" ? selection.id : null);
    document.body.classList.toggle("with-panel", selection !== null);
    this.#map?.resize();
    this.#writeAddress();
    if (selection?.kind === "transformer") {
      const found = this.#transformers.find((t) => t.id === selection.id);
      if (found) this.#map?.showTransformer(found);
    }
    void this.#details.fill().then(() => focus && this.#panel.focus());
  }

  setLive(live: boolean): void {
    this.#live = live;
    this.#timebar.setLive(live);
    if (live) {
      this.setPlaying(false);
      this.#showIndex(this.#timeline.length - 1);
    }
    this.#writeAddress();
  }

  setPlaying(playing: boolean): void {
    if (playing === this.#player.playing) return;
    if (!playing || this.#timeline.length <= 1) {
      this.#player.stop();
      this.#timebar.setPlaying(false);
      this.#writeAddress();
      this.#speak();
      return;
    }
    this.#player.start();
    this.#timebar.setPlaying(true);
    this.#live = false;
    this.#timebar.setLive(false);
    if (this.#moment?.index === this.#timeline.length - 1) this.#showIndex(0);
  }

  // --- what is shown -------------------------------------------------------------------

  #leaveLiveAndShow(index: number): void {
    this.#live = index >= this.#timeline.length - 1 && this.#live;
    this.#timebar.setLive(this.#live);
    this.setPlaying(false);
    this.#showIndex(index);
    this.#writeAddress();
  }

  #showIndex(index: number): void {
    const moment = this.#timeline.at(index);
    if (moment === null) return;
    this.#moment = moment;
    this.#timebar.setMoment(moment);
    this.#panel.setMoment(moment.endUtcS);
    void this.#details.fill();
    this.#show();
  }

  /** Draws the shown moment from memory; what is missing is fetched and then drawn. */
  #show(): void {
    const moment = this.#moment;
    if (moment === null) return;
    this.#tooltip.hide();
    const block = this.#blocks.peek(this.#layer.id, moment.day);
    this.#map?.setClasses((cell) =>
      block === null ? 255 : classOf(this.#scale, valueAt(block, moment.step, cell)),
    );
    this.#showTransformers(moment);
    const covered = this.#catalog.coverage[moment.day];
    this.#timebar.setCoverage(
      words.coverageDay(share(covered), moment.day.slice(5)),
      words.cellsKnown(block === null ? 0 : cellsKnown(block, moment.step), this.#cells.length),
    );
    if (!this.#player.playing) this.#speak();
    this.#ensure(this.#layer.id, moment.day);
    const next = this.#timeline.dayAfter(moment.day);
    if (next !== null) this.#ensure(this.#layer.id, next);
  }

  #showTransformers(moment: Moment): void {
    const classes = new Map(
      this.#transformers.map((t) => [
        t.id,
        classOf(TRANSFORMER_SCALE, this.#utilisation.at(t.id, moment)),
      ]),
    );
    this.#map?.setTransformerClasses(classes);
    this.#ranking.setNow((id) => this.#utilisation.at(id, moment));
  }

  #ensure(layer: string, day: string): void {
    const version = this.#catalog.versions[layer]?.[day];
    if (version === undefined) return;
    const before = this.#blocks.peek(layer, day);
    this.#blocks.get(layer, day, version).then(
      (block) => {
        this.#failures.clear("block");
        if (block !== before && layer === this.#layer.id && day === this.#moment?.day) this.#show();
      },
      (error: unknown) => this.#complain("block", error),
    );
  }

  #speak(): void {
    const moment = this.#moment;
    if (moment === null) return;
    const block = this.#blocks.peek(this.#layer.id, moment.day);
    const when = this.#clock.full(moment.endUtcS);
    const utilisationOf = (id: string) => this.#utilisation.at(id, moment);
    const place = [this.#cells.length, this.#transformers, utilisationOf] as const;
    this.#spoken.say(summary(this.#layer, when, block, moment.step, ...place));
  }

  #hover(target: Selection | null, x: number, y: number): void {
    const moment = this.#moment;
    if (target === null || moment === null) return this.#tooltip.hide();
    this.#tooltip.show(this.#describe(target, moment), x, y);
  }

  #describe(target: Selection, moment: Moment): Line[] {
    const when = this.#clock.full(moment.endUtcS);
    if (target.kind === "transformer") {
      const found = this.#transformers.find((t) => t.id === target.id);
      return describeTransformer(target.id, found, this.#utilisation.at(target.id, moment), when);
    }
    const block = this.#blocks.peek(this.#layer.id, moment.day);
    const value = block === null ? null : valueAt(block, moment.step, target.index);
    return describeCell(this.#layer, this.#cells[target.index], value, when);
  }

  // --- the grid and the panel ------------------------------------------------------------

  async #startGrid(): Promise<void> {
    const grid = await this.#failures.until("grid", () =>
      Promise.all([api.cells(), api.network(), api.transformers()]),
    );
    const [cells, network, transformers] = grid;
    this.#cells = cells;
    this.#transformers = transformers;
    if (!webGl2Works()) {
      this.#mapPlace.append(h("p", { class: "no-webgl", role: "alert" }, words.noWebGl));
      return;
    }
    this.#map = new TownMap(this.#mapPlace, this.#catalog.town.bbox, {
      hover: (target, x, y) => this.#hover(target, x, y),
      select: (target) => this.select(target),
      cursor: (cell) => {
        const moment = this.#moment;
        if (moment === null) return;
        const lines = this.#describe({ kind: "cell", index: cell }, moment);
        this.#spoken.say(`${words.cellTitle(cell)}: ${lines.map(([, text]) => text).join(", ")}`);
      },
    });
    await this.#map.setGrid(cells, network, transformers);
  }

  // --- news ------------------------------------------------------------------------------

  #poll(): void {
    const waiting = this.#timeline.length === 0;
    window.setTimeout(
      () => void this.#refresh().finally(() => this.#poll()),
      waiting ? WAITING_POLL_MS : QUIET_POLL_MS,
    );
  }

  readonly #refresh = oneAtATime(async () => {
    this.#takeCatalog(await this.#failures.until("catalog", () => api.catalog()));
    await this.#showNews();
  });

  async #showNews(): Promise<void> {
    if (this.#timeline.length === 0) {
      this.#waiting.show(await this.#failures.until("devices", () => api.devices()));
      return;
    }
    this.#waiting.hide();
    if (this.#live || this.#moment === null) this.#showIndex(this.#timeline.length - 1);
    else this.#showIndex(this.#timeline.nearest(this.#moment.endUtcS));
    await this.#loadOverview();
  }

  /** Ranking and town load over the stored days; days already known cost nothing. */
  async #loadOverview(): Promise<void> {
    const days = this.#timeline.days.slice(-MOST_DAYS_OF_TOWN_LOAD).map((d) => d.day);
    const { versions } = this.#catalog;
    try {
      for (const day of [...days].reverse()) {
        await this.#utilisation.load(day, versions["utilisation"]?.[day] ?? "");
      }
      this.#ranking.setRanking(this.#utilisation.ranked(this.#transformers), days.length);
      if (this.#moment) this.#showTransformers(this.#moment);
      for (const day of [...days].reverse()) {
        const version = versions[TOWN_LOAD_LAYER]?.[day];
        if (version !== undefined) await this.#blocks.get(TOWN_LOAD_LAYER, day, version);
      }
      this.#failures.clear("overview");
    } catch (error) {
      this.#complain("overview", error, () => void this.#loadOverview());
    }
    const densities = (day: string) => this.#blocks.peek(TOWN_LOAD_LAYER, day);
    this.#timebar.setTownLoad(townLoad(this.#timeline, densities, this.#cells));
    if (this.#moment) this.#timebar.setMoment(this.#moment);
  }

  #takeCatalog(catalog: Catalog): void {
    this.#catalog = catalog;
    this.#clock = new TownClock(catalog.town.timezone);
    this.#timeline = new Timeline(catalog.days, catalog.interval_s, catalog.last_end_utc_s);
    this.#header.setCatalog(catalog, this.#clock);
    this.#layersView.setLayers(catalog.layers);
    this.#timebar.setTimeline(this.#timeline, this.#clock);
  }

  // --- time, address, keys ------------------------------------------------------------------

  /** The next interval in playing: shown once it is due and its day is here. */
  #playNext(due: boolean): Step {
    const next = this.#moment!.index + 1;
    if (next >= this.#timeline.length) return "end";
    const day = this.#timeline.at(next)!.day;
    if (this.#blocks.peek(this.#layer.id, day) === null) {
      this.#ensure(this.#layer.id, day);
      return "waiting";
    }
    if (!due) return "waiting";
    this.#showIndex(next);
    return "shown";
  }

  async #applyAddress(): Promise<void> {
    const view = readView(window.location.hash);
    if (view.endUtcS !== undefined && this.#timeline.length > 0) {
      this.#live = false;
      this.#showIndex(this.#timeline.nearest(view.endUtcS));
    }
    this.#timebar.setLive(this.#live);
    this.chooseLayer(view.layer ?? this.#layer.id);
    if (JSON.stringify(view.selection ?? null) !== JSON.stringify(this.#selection)) {
      this.select(view.selection ?? null);
    }
  }

  /** Writes the address once things rest: browsers count and limit such changes. */
  #writeAddress(): void {
    window.clearTimeout(this.#addressTimer);
    this.#addressTimer = window.setTimeout(() => {
      if (this.#player.playing) return;
      const time = this.#live || this.#moment === null ? {} : { endUtcS: this.#moment.endUtcS };
      const selection = this.#selection === null ? {} : { selection: this.#selection };
      const hash = writeView({ layer: this.#layer.id, ...time, ...selection });
      window.history.replaceState(null, "", hash || window.location.pathname);
    }, ADDRESS_RESTS_MS);
  }

  #globalKey(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (event.key === "Escape" && this.#selection !== null) {
      this.select(null);
      this.#map?.canvas.focus();
    }
    if (event.key === " " && (target === document.body || target === this.#map?.canvas)) {
      event.preventDefault();
      this.setPlaying(!this.#player.playing);
    }
  }

  #complain(what: string, error: unknown, tryNow?: () => void): void {
    if (!(error instanceof ApiError)) throw error;
    this.#failures.show(what, error, undefined, tryNow);
  }
}
