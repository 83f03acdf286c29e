/**
 * Colours and classes: the one place where a value becomes a colour.
 *
 * A scale is fixed by the catalog's breaks. It never looks at the data, so one colour means
 * one range of values at every hour of every day.
 */

export type Palette = "cividis" | "blue-orange";
export type Rgb = readonly [red: number, green: number, blue: number];

/** Index of the class that means "no data"; other classes count from 0. */
export const NO_DATA = 255;

// Cividis (Nuñez, Anderton, Renslow 2018) at equal steps of 1/10, sRGB.
const CIVIDIS: readonly Rgb[] = [
  [0, 34, 78],
  [8, 51, 112],
  [53, 69, 108],
  [79, 87, 108],
  [102, 105, 112],
  [125, 124, 120],
  [148, 142, 119],
  [174, 163, 113],
  [200, 184, 102],
  [229, 207, 82],
  [254, 232, 56],
];

// Diverging about a light grey; blue and orange stay apart for every common colour vision.
const BLUE_ORANGE: readonly Rgb[] = [
  [33, 102, 172],
  [103, 169, 207],
  [189, 215, 231],
  [232, 230, 225],
  [253, 208, 162],
  [241, 149, 72],
  [191, 91, 23],
];

const ANCHORS: Readonly<Record<Palette, readonly Rgb[]>> = {
  cividis: CIVIDIS,
  "blue-orange": BLUE_ORANGE,
};

export interface Scale {
  /** Lower edge of each class; the first class takes everything below the second edge. */
  readonly edges: readonly number[];
  readonly colours: readonly Rgb[];
}

/**
 * The scale of a layer. Where the breaks begin above zero there is a class below them;
 * where they begin at zero or lower, the first break is the first class's lower edge.
 */
export function makeScale(breaks: readonly number[], palette: Palette): Scale {
  for (let i = 1; i < breaks.length; i++) {
    if (!(breaks[i]! > breaks[i - 1]!)) {
      throw new RangeError(`breaks must rise, came ${breaks.join(", ")}`);
    }
  }
  const edges = breaks.length === 0 || breaks[0]! > 0 ? [-Infinity, ...breaks] : [...breaks];
  const last = Math.max(1, edges.length - 1);
  // The darkest twentieth is left out: it would not stand off the map's ground.
  const from = palette === "cividis" ? 0.06 : 0;
  const colours = edges.map((_, i) => interpolate(ANCHORS[palette], from + (1 - from) * (i / last)));
  return { edges, colours };
}

/** Class of a value: the last class whose lower edge is not above it; NO_DATA for null. */
export function classOf(scale: Scale, value: number | null): number {
  if (value === null || Number.isNaN(value)) return NO_DATA;
  let found = 0;
  for (let i = 1; i < scale.edges.length; i++) if (value >= scale.edges[i]!) found = i;
  return found;
}

/** Class values as the legend prints them: "< 2", "2 – 5", "≥ 20". */
export function classLabels(scale: Scale): string[] {
  const { edges } = scale;
  return edges.map((low, i) => {
    const high = edges[i + 1];
    if (high === undefined) return edges.length === 1 ? "any" : `≥ ${plain(low)}`;
    return low === -Infinity ? `< ${plain(high)}` : `${plain(low)} – ${plain(high)}`;
  });
}

export function css(colour: Rgb): string {
  return `rgb(${colour[0]} ${colour[1]} ${colour[2]})`;
}

/** Utilisation of a transformer's symbol: fixed classes at the marks that planners use. */
export const TRANSFORMER_EDGES = [-Infinity, 50, 80, 100] as const;
export const TRANSFORMER_COLOURS: readonly Rgb[] = [
  [126, 148, 166],
  [205, 217, 226],
  [245, 174, 72],
  [240, 93, 51],
];
export const TRANSFORMER_SCALE: Scale = {
  edges: TRANSFORMER_EDGES,
  colours: TRANSFORMER_COLOURS,
};

function interpolate(anchors: readonly Rgb[], at: number): Rgb {
  const place = Math.min(1, Math.max(0, at)) * (anchors.length - 1);
  const low = Math.min(anchors.length - 2, Math.floor(place));
  const share = place - low;
  const a = anchors[low]!;
  const b = anchors[low + 1]!;
  return [0, 1, 2].map((i) => Math.round(a[i]! + (b[i]! - a[i]!) * share)) as unknown as Rgb;
}

function plain(value: number): string {
  return new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 4 }).format(value);
}
