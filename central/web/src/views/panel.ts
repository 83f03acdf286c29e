/** The side panel: one transformer with its asset record, or one cell with its day. */
import type { AssetRecord, Cell, CellLoad, MeterEvent, Transformer, TransformerLoad } from "../api";
import { Chart } from "../charts";
import { describeEvent } from "../describe";
import { facts, h, icon } from "../dom";
import type { TownClock } from "../time";
import { number, percent, share, words } from "../words";

const CROSS = "M3.4 2 8 6.6 12.6 2 14 3.4 9.4 8l4.6 4.6-1.4 1.4L8 9.4 3.4 14 2 12.6 6.6 8 2 3.4z";
const LINE = "#6fb1e8";
const WARM = "#f0a35b";
const LIMIT_80 = "#f5ae48";
const LIMIT_100 = "#f0734b";

export class Panel {
  readonly element = h("aside", { class: "panel", hidden: true, "aria-label": words.transformer });
  readonly #title = h("h2", { tabindex: "-1" });
  readonly #subtitle = h("p", { class: "subtitle" });
  readonly #body = h("div", { class: "body" });
  #charts: Chart[] = [];
  #onMoment: ((utcS: number) => void) | null = null;
  #momentUtcS = 0;

  constructor(close: () => void) {
    const shut = h("button", { type: "button", class: "close", "aria-label": words.close, title: words.close }, icon(CROSS));
    shut.addEventListener("click", close);
    this.element.append(
      h("div", { class: "head" }, h("div", {}, this.#title, this.#subtitle), shut),
      this.#body,
    );
  }

  close(): void {
    this.#clear();
    this.element.hidden = true;
  }

  opening(title: string, subtitle: string): void {
    this.#clear();
    this.element.hidden = false;
    this.#title.textContent = title;
    this.#subtitle.textContent = subtitle;
    this.element.setAttribute("aria-label", title);
    this.#body.replaceChildren(h("p", { class: "hint" }, words.loading));
  }

  /** The address names something that this grid does not have. */
  unknown(name: string): void {
    this.opening(name, "");
    this.#body.replaceChildren(h("p", { class: "hint" }, words.notInGrid(name)));
  }

  focus(): void {
    this.#title.focus({ preventScroll: true });
  }

  setMoment(utcS: number): void {
    this.#momentUtcS = utcS;
    for (const chart of this.#charts) chart.setNow(utcS);
    this.#onMoment?.(utcS);
  }

  showTransformer(
    transformer: Transformer,
    record: AssetRecord | null,
    load: TransformerLoad,
    events: readonly MeterEvent[],
    clock: TownClock,
  ): void {
    this.#clear();
    this.#title.textContent = transformer.name;
    this.#subtitle.replaceChildren(
      `${words.transformer} ${transformer.id} · ${words.rating(transformer.rated_kva)}`,
      ...(record?.identity?.synthetic
        ? [h("abbr", { class: "tag", title: words.syntheticNote }, words.synthetic)]
        : []),
    );
    const now = h("div", { class: "now", "data-part": "now" });
    const loadPlace = h("div", { class: "chart" });
    const hotPlace = h("div", { class: "chart" });
    this.#body.replaceChildren(
      now,
      h("h3", {}, words.loadChart),
      loadPlace,
      h("h3", {}, words.hotSpotChart),
      hotPlace,
      ...recordSections(record, clock),
      eventSection(events, clock),
    );
    this.#charts = transformerCharts(load, clock, loadPlace, hotPlace);
    const at = new Map(load.end_utc_s.map((t, i) => [t, i]));
    this.#onMoment = (utcS) => now.replaceChildren(...nowFigures(load, at.get(utcS)));
    this.setMoment(this.#momentUtcS);
  }

  showCell(cell: Cell, fedBy: string | null, load: CellLoad, clock: TownClock): void {
    this.#clear();
    this.#title.textContent = words.cellTitle(cell.index);
    this.#subtitle.textContent = [
      words.servicePoints(cell.service_points),
      fedBy === null ? null : words.fedBy(fedBy),
    ]
      .filter(Boolean)
      .join(" · ");
    const now = h("div", { class: "now", "data-part": "now" });
    const place = h("div", { class: "chart" });
    const reporting = h("p", { class: "hint" });
    this.#body.replaceChildren(
      now,
      h("h3", {}, words.cellChart),
      place,
      reporting,
      facts([
        ["H3", cell.cell],
        ["Area", `${number(cell.area_km2 * 100, 2)} ha`],
      ]),
    );
    const kw = (values: readonly (number | null)[]) => values.map((v) => (v === null ? null : v / 1000));
    const series = [
      { label: words.importSeries, colour: LINE, values: kw(load.import_w), filled: true },
      { label: words.exportSeries, colour: "#e3cf52", values: kw(load.export_w) },
      { label: words.evSeries, colour: WARM, values: kw(load.ev_w) },
    ];
    this.#charts = [
      new Chart(place, load.end_utc_s, series, {
        title: words.cellChart,
        clock,
        height: 210,
        legend: true,
      }),
    ];
    const at = new Map(load.end_utc_s.map((t, i) => [t, i]));
    this.#onMoment = (utcS) => {
      const i = at.get(utcS);
      now.replaceChildren(
        ...series.map((s) => figure(s.label, i === undefined ? null : (s.values[i] ?? null), "kW", 2)),
      );
      const read = i === undefined ? null : (load.meters_reporting[i] ?? null);
      reporting.textContent = words.metersReporting(read, load.meters);
    };
    this.setMoment(this.#momentUtcS);
  }

  #clear(): void {
    for (const chart of this.#charts) chart.destroy();
    this.#charts = [];
    this.#onMoment = null;
  }
}

function transformerCharts(
  load: TransformerLoad,
  clock: TownClock,
  loadPlace: HTMLElement,
  hotPlace: HTMLElement,
): Chart[] {
  const charts = [
    new Chart(
      loadPlace,
      load.end_utc_s,
      [{ label: words.utilisation, colour: LINE, values: load.percent, filled: true }],
      {
        title: words.loadChart,
        clock,
        height: 172,
        atLeast: 112,
        marks: [
          { value: 100, label: "100 % rating", colour: LIMIT_100 },
          { value: 80, label: "80 %", colour: LIMIT_80 },
        ],
      },
    ),
  ];
  if (load.hot_spot_c.some((v) => v !== null)) {
    charts.push(
      new Chart(
        hotPlace,
        load.end_utc_s,
        [{ label: words.hotSpot, colour: WARM, values: load.hot_spot_c }],
        {
          title: words.hotSpotChart,
          clock,
          height: 104,
          atLeast: 105,
          marks: [{ value: 98, label: "98 °C", colour: LIMIT_80 }],
        },
      ),
    );
  } else {
    hotPlace.replaceChildren(h("p", { class: "hint" }, words.noData));
  }
  return charts;
}

function nowFigures(load: TransformerLoad, at: number | undefined): HTMLElement[] {
  const pick = (values: readonly (number | null)[]) =>
    at === undefined ? null : (values[at] ?? null);
  const kilo = (value: number | null) => (value === null ? null : value / 1000);
  return [
    figure(words.utilisation, pick(load.percent), "%", 1),
    figure(words.apparent, kilo(pick(load.apparent_va)), "kVA", 1),
    figure(words.active, kilo(pick(load.active_w)), "kW", 1),
    figure(words.hotSpot, pick(load.hot_spot_c), "°C", 1),
  ];
}

function figure(label: string, value: number | null, unit: string, digits: number): HTMLElement {
  return h(
    "div",
    { class: "number" },
    h("span", { class: "label" }, label),
    value === null
      ? h("b", { class: "none" }, words.noData)
      : h("b", {}, number(value, digits), h("small", {}, ` ${unit}`)),
  );
}

function recordSections(record: AssetRecord | null, clock: TownClock): HTMLElement[] {
  if (record === null) return [h("p", { class: "hint" }, words.record.none)];
  const w = words.record;
  const sections: [string, HTMLElement][] = [];
  const hours = (v: number | null) => (v === null ? words.noData : `${number(v, 2)} h`);
  const { loading, ageing, identity } = record;
  if (loading) {
    const when = loading.peak_utc_s === null ? "" : ` · ${clock.short(loading.peak_utc_s)}`;
    sections.push([
      w.loading,
      facts([
        [w.peak, h("span", { "data-value": "peak_percent" }, percent(loading.peak_percent), h("small", {}, when))],
        [w.mean, h("span", { "data-value": "mean_percent" }, percent(loading.mean_percent))],
        [w.above80, h("span", { "data-value": "hours_above_80" }, hours(loading.hours_above_80))],
        [w.above100, h("span", { "data-value": "hours_above_100" }, hours(loading.hours_above_100))],
        [w.source, loading.source ?? words.unknown],
        [w.coverage, share(loading.coverage)],
      ]),
    ]);
  }
  if (ageing) {
    const days = (v: number | null) => (v === null ? words.unknown : number(v, v < 10 ? 3 : 1));
    const equivalent = w.equivalentValue(days(ageing.equivalent_days), days(ageing.calendar_days));
    const hot = ageing.hot_spot_max_c;
    sections.push([
      w.ageing,
      facts([
        [w.equivalent, h("span", { "data-value": "equivalent_days" }, equivalent)],
        [w.rate, ageing.relative_rate === null ? words.noData : number(ageing.relative_rate, 4)],
        [w.hotSpotMax, h("span", { "data-value": "hot_spot_max_c" }, hot === null ? words.noData : `${number(hot, 1)} °C`)],
        [w.above98, hours(ageing.hours_above_98_c)],
        [w.above120, hours(ageing.hours_above_120_c)],
        [w.ambient, ageing.ambient_source ?? words.unknown],
        [w.paper, ageing.paper ?? words.unknown],
        [w.method, ageing.method ?? words.unknown],
        [w.coverage, share(ageing.coverage)],
      ]),
    ]);
  }
  if (identity) {
    const id = (name: string, text: string) => h("span", { "data-value": name }, text);
    sections.push([
      w.identity,
      facts([
        [w.asset, id("asset_id", identity.asset_id)],
        [w.age, id("age_years", w.ageValue(number(identity.age_years, 1), identity.installed_on))],
        [w.maker, id("manufacturer", identity.manufacturer)],
        [w.model, id("model", identity.model)],
        [w.batch, id("batch", identity.batch)],
        [w.serial, id("serial", identity.serial)],
        [w.built, String(identity.manufactured_year)],
        [w.rated, words.rating(record.rating.rated_kva)],
      ]),
    ]);
  }
  sections.push([w.meters, facts(meterRows(record))]);
  return sections.map(([title, list]) => h("section", { class: "record" }, h("h3", {}, title), list));
}

/** What the meters below said of themselves, newest first. */
function eventSection(events: readonly MeterEvent[], clock: TownClock): HTMLElement {
  const rows = events.map((event): [string, HTMLElement] => {
    const [what, detail] = describeEvent(event);
    return [clock.short(event.at_utc_s), h("span", {}, what, h("small", {}, detail && ` ${detail}`))];
  });
  return h(
    "section",
    { class: "record", "data-part": "events" },
    h("h3", {}, words.events.title),
    h("p", { class: "hint" }, rows.length ? words.events.byMeters : words.events.none),
    facts(rows),
  );
}

function meterRows(record: AssetRecord): [string, string][] {
  const rows: [string, string][] = [
    [words.record.customers, record.customers === null ? words.unknown : number(record.customers, 0)],
  ];
  for (const [kind, count] of Object.entries(record.meters ?? {})) {
    const name = kind.replaceAll("_", " ");
    if (typeof count === "number") rows.push([name[0]!.toUpperCase() + name.slice(1), number(count, 0)]);
  }
  return rows;
}
