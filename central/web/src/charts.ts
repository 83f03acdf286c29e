/** Curves: thin wrappers over uPlot in the page's colours, on the town's local time. */
import uPlot from "uplot";
import type { TownClock } from "./time";
import { words } from "./words";

const TEXT = "#a9b6c2";
const LABEL_GROUND = "rgb(22 29 37 / 88%)";
const GRID = "#232c36";
const FONT = "11px 'Segoe UI', 'Noto Sans', 'Liberation Sans', Arial, sans-serif";

export interface Curve {
  readonly label: string;
  readonly colour: string;
  readonly values: readonly (number | null)[];
  readonly filled?: boolean;
}

export interface Mark {
  readonly value: number;
  readonly label: string;
  readonly colour: string;
}

export interface ChartOptions {
  readonly title: string;
  readonly clock: TownClock;
  readonly height: number;
  readonly marks?: readonly Mark[];
  readonly atLeast?: number;
  readonly from?: number;
  readonly legend?: boolean;
}

export class Chart {
  readonly #plot: uPlot;
  readonly #watch: ResizeObserver;
  #nowUtcS: number | null = null;

  constructor(
    readonly place: HTMLElement,
    times: readonly number[],
    curves: readonly Curve[],
    options: ChartOptions,
  ) {
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", describe(options.title, curves));
    const data = [[...times], ...curves.map((c) => [...c.values])] as uPlot.AlignedData;
    this.#plot = new uPlot(this.#options(curves, options), data, place);
    this.#watch = new ResizeObserver(() => {
      const width = place.clientWidth;
      if (width > 0 && width !== this.#plot.width) {
        this.#plot.setSize({ width, height: options.height });
      }
    });
    this.#watch.observe(place);
  }

  /** Marks the interval that the map shows. */
  setNow(utcS: number): void {
    this.#nowUtcS = utcS;
    this.#plot.redraw(false);
  }

  destroy(): void {
    this.#watch.disconnect();
    this.#plot.destroy();
  }

  #options(curves: readonly Curve[], options: ChartOptions): uPlot.Options {
    const axis = { stroke: TEXT, font: FONT, ticks: { show: false } };
    return {
      width: Math.max(200, this.place.clientWidth),
      height: options.height,
      padding: [10, 22, 0, 0],
      tzDate: (s) => uPlot.tzDate(new Date(s * 1000), options.clock.timezone),
      legend: { show: options.legend ?? false, live: true },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => range(low, high, options) } },
      axes: [
        {
          ...axis,
          grid: { stroke: GRID, width: 1 },
          space: 46,
          values: (_plot, splits) => splits.map((s) => timeLabel(options.clock, s)),
          size: 26,
        },
        { ...axis, grid: { stroke: GRID, width: 1 }, size: 40, space: 26 },
      ],
      series: [
        { label: words.time, value: (_plot, s) => (s === null ? "" : options.clock.short(s)) },
        ...curves.map((curve) => ({
          label: curve.label,
          stroke: curve.colour,
          width: 1.5,
          ...(curve.filled ? { fill: `${curve.colour}26` } : {}),
          points: { show: false },
          spanGaps: false,
        })),
      ],
      hooks: {
        draw: [(plot) => this.#drawMarks(plot, options.marks ?? [])],
      },
    };
  }

  #drawMarks(plot: uPlot, marks: readonly Mark[]): void {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.lineWidth = window.devicePixelRatio;
    ctx.font = `${10 * window.devicePixelRatio}px 'Segoe UI', 'Liberation Sans', Arial, sans-serif`;
    for (const mark of marks) {
      const y = plot.valToPos(mark.value, "y", true);
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      ctx.strokeStyle = mark.colour;
      ctx.fillStyle = mark.colour;
      ctx.setLineDash([5, 4]);
      line(ctx, bbox.left, y, bbox.left + bbox.width, y);
      ctx.textAlign = "left";
      ctx.textBaseline = "bottom";
      const { width } = ctx.measureText(mark.label);
      const height = 13 * window.devicePixelRatio;
      // A ground of its own keeps the label readable where the curve runs behind it.
      ctx.fillStyle = LABEL_GROUND;
      ctx.fillRect(bbox.left + 1, y - height, width + 8, height - 1);
      ctx.fillStyle = mark.colour;
      ctx.fillText(mark.label, bbox.left + 5, y - 2);
    }
    if (this.#nowUtcS !== null) {
      const x = plot.valToPos(this.#nowUtcS, "x", true);
      if (x >= bbox.left && x <= bbox.left + bbox.width) {
        ctx.setLineDash([]);
        ctx.strokeStyle = "#ffffff";
        line(ctx, x, bbox.top, x, bbox.top + bbox.height);
      }
    }
    ctx.restore();
  }
}

/** A day's name at its local midnight, hours between. */
function timeLabel(clock: TownClock, utcS: number): string {
  return clock.isMidnight(utcS) ? `${clock.weekday(utcS)} ${clock.parts(utcS).day}` : clock.time(utcS);
}

function range(low: number | null, high: number | null, options: ChartOptions): [number, number] {
  const bottom = options.from ?? Math.min(0, low ?? 0);
  const top = Math.max(options.atLeast ?? 0, (high ?? 1) * 1.06, bottom + 1e-6);
  return [bottom, top];
}

function line(ctx: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

function describe(title: string, curves: readonly Curve[]): string {
  const parts = curves.map((curve) => {
    const known = curve.values.filter((v): v is number => v !== null);
    if (known.length === 0) return `${curve.label}: ${words.noData}`;
    const low = known.reduce((a, b) => Math.min(a, b));
    const high = known.reduce((a, b) => Math.max(a, b));
    return `${curve.label} ${low.toFixed(1)} to ${high.toFixed(1)}`;
  });
  return `${title}: ${parts.join("; ")}`;
}
