/**
 * Every sentence of the page, in one place, in the API's and the field's words. How numbers
 * look is decided here too.
 */

export function number(value: number, digits = 1): string {
  return new Intl.NumberFormat("en-GB", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

/** Three to four significant digits, as a tooltip wants them. */
export function exact(value: number): string {
  const size = Math.abs(value);
  return number(value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

export function percent(value: number | null, digits = 1): string {
  return value === null ? words.noData : `${number(value, digits)} %`;
}

export function share(value: number | null | undefined, digits = 1): string {
  return value === null || value === undefined ? words.unknown : `${number(value * 100, digits)} %`;
}

export const words = {
  brand: "Loadscape",
  subtitle: "Power thermal map",
  noData: "no data",
  unknown: "not known",
  map: "Map of the town's grid. Arrow keys move from cell to cell, Enter opens a cell, plus and minus zoom.",
  simulatedClock: (speed: number) => `Simulated clock, ${number(speed, 0)}×`,
  clock: "Clock",
  layer: "Layer",
  legendTransformer: "Transformers",
  legendTransformerUnit: "% of rated kVA",
  legendFixed: "Classes never change with time",
  areaHint: "H3 cells, resolution 10",
  noDataLegend: "no data",
  networkMain: "main line",
  networkService: "service line",
  ranked: "Transformers by peak",
  rankedHint: (days: number) => `of ${number(days, 0)} stored ${days === 1 ? "day" : "days"}`,
  search: "Find a transformer",
  columns: { rank: "#", name: "Transformer", now: "Now", peak: "Peak" },
  nothingFound: (text: string) => `No transformer has “${text}” in its name or id.`,
  play: "Play",
  pause: "Pause",
  stepBack: "One interval back",
  stepForward: "One interval on",
  speed: "Playing speed",
  speedOption: (stepsPerS: number, intervalS: number) => {
    const minutes = (stepsPerS * intervalS) / 60;
    return minutes < 60 ? `${minutes} min/s` : `${number(minutes / 60, 0)} h/s`;
  },
  live: "Live",
  liveOn: "Following the newest interval",
  liveOff: "Go to the newest interval and follow it",
  time: "Interval end",
  slider: "Time: interval of all stored days",
  go: "Show the interval at this local time",
  timeForm: "YYYY-MM-DD HH:MM",
  badTime: "Write the time as YYYY-MM-DD HH:MM",
  outside: (first: string, last: string) => `Stored: ${first} to ${last}`,
  coverage: "Meters read",
  coverageDay: (value: string, day: string) => `${value} on ${day} (UTC)`,
  cellsKnown: (known: number, all: number) => `cells with data ${known} of ${all}`,
  townLoad: "Town load",
  loading: "loading…",
  connected: "live",
  reconnecting: "reconnecting",
  close: "Close panel",
  notInGrid: (name: string) => `The grid has no ${name}. The address may be of another town or an older grid.`,
  servicePoints: (n: number) => `${number(n, 0)} service ${n === 1 ? "point" : "points"}`,
  cell: "Cell",
  cellTitle: (index: number) => `Cell ${index}`,
  fedBy: (name: string) => `fed mostly by ${name}`,
  transformer: "Transformer",
  cellChart: "Day curve, kW",
  importSeries: "import",
  exportSeries: "export",
  evSeries: "EV charging",
  metersReporting: (n: number | null, all: number) =>
    n === null ? words.noData : `${number(n, 0)} of ${number(all, 0)} meters read`,
  loadChart: "Load, % of rating, all stored days",
  hotSpotChart: "Hot-spot temperature, °C",
  rating: (kva: number) => `${number(kva, 0)} kVA`,
  synthetic: "synthetic",
  syntheticNote: "Asset data made for the demonstration; no real unit.",
  atStep: "At the shown interval",
  utilisation: "Utilisation",
  apparent: "Apparent power",
  active: "Active power",
  hotSpot: "Hot spot",
  record: {
    loading: "Loading, stored days",
    ageing: "Ageing, stored days",
    identity: "Identity",
    meters: "Metering",
    peak: "Peak utilisation",
    mean: "Mean utilisation",
    above80: "Hours above 80 %",
    above100: "Hours above 100 %",
    source: "Source",
    coverage: "Coverage",
    equivalent: "Equivalent ageing",
    equivalentValue: (aged: string, calendar: string) => `${aged} d in ${calendar} calendar d`,
    rate: "Relative rate",
    hotSpotMax: "Hot-spot maximum",
    above98: "Hours above 98 °C",
    above120: "Hours above 120 °C",
    ambient: "Ambient",
    paper: "Paper",
    method: "Method",
    asset: "Asset",
    age: "Age",
    ageValue: (years: string, installed: string) => `${years} years (installed ${installed})`,
    maker: "Maker",
    model: "Model",
    batch: "Batch",
    serial: "Serial",
    built: "Manufactured",
    rated: "Rating",
    customers: "Customers",
    none: "No asset record is stored for this transformer.",
  },
  events: {
    title: "Meters' event logs",
    byMeters: "Newest first, by the meters' own clocks: log and code",
    none: "None in the stored days.",
  },
  empty: {
    title: "Waiting for readings",
    none: "No agent has connected yet.",
    agents: (n: number) => `${number(n, 0)} ${n === 1 ? "agent" : "agents"} connected`,
    recovered: (value: string) => `week recovered from meters: ${value}`,
    note: "The map fills by itself as soon as the first interval is stored.",
  },
  summary: (
    title: string,
    time: string,
    highest: string,
    known: number,
    all: number,
    transformer: string,
  ) => `${title}, ${time}. Highest cell: ${highest}. Cells with data: ${known} of ${all}. ${transformer}`,
  highestTransformer: (name: string, value: string) => `Highest transformer: ${name}, ${value}.`,
  noWebGl:
    "This browser offers no WebGL 2, which the map is drawn with. The figures, the ranked table and " +
    "the curves work without it. Switch on hardware acceleration or use another browser to see the map.",
  contextLost: "The graphics driver took the map away. It is drawn again as soon as it comes back.",
  error: {
    unreachable: (url: string) => `No answer to ${url}.`,
    late: (url: string, s: number) => `No answer to ${url} within ${s} s.`,
    status: (url: string, status: number, detail: string) =>
      `${url} answered ${status}${detail ? `: ${detail}` : "."}`,
    notJson: (url: string) => `${url} did not answer JSON.`,
    cells: (block: number, grid: number) =>
      `The layer has ${block} cells, the grid ${grid}: they are of different grid versions.`,
    damaged: (what: string) => `A layer block is damaged: ${what}.`,
  },
  remedy: {
    unreachable: "See that the API process runs (loadscape-central status).",
    notJson: "Something else than Loadscape's API answers here; check the address.",
    reload: "Reload the page; if it stays, load the grid again (loadscape-central grid load).",
    status: (status: number) =>
      status === 401 || status === 403
        ? "Sign in first; your session may have ended."
        : status === 404
          ? "It may not be stored yet, or the address is of an older version."
          : status >= 500
            ? "The API process failed; its log says why."
            : "Reload the page.",
  },
  retryIn: (s: number) => `Trying again in ${s} s.`,
  tryNow: "Try now",
};
