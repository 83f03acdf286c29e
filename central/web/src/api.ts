/**
 * The API as the page sees it: types in the API's own words, and requests whose failures
 * say what was asked, what came and what to do about it.
 */
import type { FeatureCollection as Network } from "geojson";
import { words } from "./words";
import type { Palette } from "./scale";
import type { StoredDay } from "./time";

export interface LayerInfo {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  readonly description: string;
  readonly breaks: readonly number[];
  readonly palette: Palette;
}

export interface Catalog {
  readonly tenant: string;
  readonly town: {
    readonly id: string;
    readonly title: string;
    readonly timezone: string;
    readonly bbox: readonly [number, number, number, number];
    readonly notices: readonly string[];
    readonly synthetic_note: string;
  };
  readonly interval_s: number;
  readonly clock: { readonly now_utc_s: number; readonly speed: number | null };
  readonly last_end_utc_s: number | null;
  readonly grid_version: string;
  readonly days: readonly StoredDay[];
  readonly layers: readonly LayerInfo[];
  readonly versions: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly coverage: Readonly<Record<string, number>>;
}

export interface CellProperties {
  readonly index: number;
  readonly cell: string;
  readonly area_km2: number;
  readonly service_points: number;
  readonly transformer: string | null;
}

export interface Cell extends CellProperties {
  readonly ring: readonly (readonly [number, number])[];
}

export interface Transformer {
  readonly id: string;
  readonly name: string;
  readonly rated_kva: number;
  readonly lon: number;
  readonly lat: number;
}

export interface DayUtilisation {
  readonly day: string;
  readonly transformers: readonly string[];
  readonly percent: readonly (readonly (number | null)[])[];
}

export interface AssetRecord {
  readonly position: { readonly id: string; readonly name: string; readonly [key: string]: unknown };
  readonly identity: {
    readonly asset_id: string;
    readonly manufacturer: string;
    readonly model: string;
    readonly batch: string;
    readonly serial: string;
    readonly manufactured_year: number;
    readonly installed_on: string;
    readonly age_years: number;
    readonly synthetic: boolean;
  } | null;
  readonly rating: { readonly rated_kva: number; readonly [key: string]: unknown };
  readonly loading: {
    readonly peak_percent: number | null;
    readonly peak_utc_s: number | null;
    readonly mean_percent: number | null;
    readonly hours_above_80: number | null;
    readonly hours_above_100: number | null;
    readonly coverage: number | null;
    readonly source: string | null;
  } | null;
  readonly ageing: {
    readonly equivalent_days: number | null;
    readonly calendar_days: number | null;
    readonly relative_rate: number | null;
    readonly hot_spot_max_c: number | null;
    readonly hours_above_98_c: number | null;
    readonly hours_above_120_c: number | null;
    readonly ambient_source: string | null;
    readonly paper: string | null;
    readonly method: string | null;
    readonly coverage: number | null;
  } | null;
  readonly customers: number | null;
  readonly meters: Readonly<Record<string, unknown>> | null;
}

export interface TransformerLoad {
  readonly end_utc_s: readonly number[];
  readonly apparent_va: readonly (number | null)[];
  readonly active_w: readonly (number | null)[];
  readonly percent: readonly (number | null)[];
  readonly hot_spot_c: readonly (number | null)[];
  readonly rated_kva: number;
}

/** An entry of one of a meter's event logs; the instant is by the meter's own clock. */
export interface MeterEvent {
  readonly meter: string;
  readonly at_utc_s: number;
  readonly log: string;
  readonly code: number;
  readonly detail: string;
}

export interface CellLoad {
  readonly end_utc_s: readonly number[];
  readonly import_w: readonly (number | null)[];
  readonly export_w: readonly (number | null)[];
  readonly ev_w: readonly (number | null)[];
  readonly meters_reporting: readonly (number | null)[];
  readonly meters: number;
}

export interface Device {
  readonly online: boolean;
  readonly recovery: { readonly known: number; readonly expected: number } | null;
}

/** A request failed; `message` says what was asked and what came, `remedy` what helps. */
export class ApiError extends Error {
  override name = "ApiError";
  constructor(
    message: string,
    readonly remedy: string,
    readonly status: number | null,
  ) {
    super(message);
  }
}

const BASE = "/api/v1";
const DEADLINE_MS = 20_000;

async function request(path: string, accept: string): Promise<Response> {
  const url = BASE + path;
  let response: Response;
  try {
    response = await fetch(url, {
      headers: { Accept: accept },
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch (cause) {
    const late = cause instanceof DOMException && cause.name === "TimeoutError";
    throw new ApiError(
      late ? words.error.late(url, DEADLINE_MS / 1000) : words.error.unreachable(url),
      words.remedy.unreachable,
      null,
    );
  }
  if (!response.ok) {
    throw new ApiError(
      words.error.status(url, response.status, await detail(response)),
      words.remedy.status(response.status),
      response.status,
    );
  }
  return response;
}

/** The API's own sentence about a failure, when it sent one. */
async function detail(response: Response): Promise<string> {
  if (!response.headers.get("content-type")?.includes("json")) return "";
  try {
    const body = (await response.json()) as { detail?: unknown };
    return typeof body.detail === "string" ? body.detail : "";
  } catch (cause) {
    if (cause instanceof SyntaxError) return "";
    throw cause;
  }
}

async function json<T>(path: string): Promise<T> {
  const response = await request(path, "application/json");
  try {
    return (await response.json()) as T;
  } catch {
    throw new ApiError(words.error.notJson(BASE + path), words.remedy.notJson, response.status);
  }
}

interface FeatureCollection<G, P> {
  readonly type: "FeatureCollection";
  readonly features: readonly { readonly geometry: G; readonly properties: P }[];
}

export const api = {
  catalog: () => json<Catalog>("/catalog"),
  network: () => json<Network>("/grid/network"),
  async cells(): Promise<Cell[]> {
    type Polygon = { coordinates: [number, number][][] };
    const found = await json<FeatureCollection<Polygon, CellProperties>>("/grid/cells");
    return found.features
      .map((f) => ({ ...f.properties, ring: f.geometry.coordinates[0] ?? [] }))
      .sort((a, b) => a.index - b.index);
  },
  async transformers(): Promise<Transformer[]> {
    type Point = { coordinates: [number, number] };
    type Properties = { id: string; name: string; rated_kva: number };
    const found = await json<FeatureCollection<Point, Properties>>("/grid/transformers");
    return found.features.map(({ properties: { id, name, rated_kva }, geometry }) => ({
      id,
      name,
      rated_kva,
      lon: geometry.coordinates[0],
      lat: geometry.coordinates[1],
    }));
  },
  async layerBlock(layer: string, day: string, version: string): Promise<ArrayBuffer> {
    const path = `/layers/${layer}/${day}/${encodeURIComponent(version)}`;
    return (await request(path, "application/octet-stream")).arrayBuffer();
  },
  utilisation: (day: string) => json<DayUtilisation>(`/transformers/utilisation/${day}`),
  assetRecord: (id: string) => json<AssetRecord>(`/transformers/${encodeURIComponent(id)}`),
  transformerLoad: (id: string, first: number, last: number) =>
    json<TransformerLoad>(
      `/transformers/${encodeURIComponent(id)}/load?first=${first}&last=${last}`,
    ),
  async transformerEvents(id: string, first: number): Promise<readonly MeterEvent[]> {
    const path = `/transformers/${encodeURIComponent(id)}/events?first=${first}`;
    return (await json<{ events: MeterEvent[] }>(path)).events;
  },
  cellLoad: (index: number, day: string) => json<CellLoad>(`/cells/${index}/load?day=${day}`),
  async devices(): Promise<readonly Device[]> {
    return (await json<{ devices: Device[] }>("/devices")).devices;
  },
  eventsUrl: `${BASE}/events`,
};

/** Seconds until the next try: 1, 2, 4 … 60. */
export function backOffS(failures: number): number {
  return Math.min(60, 2 ** Math.min(6, Math.max(0, failures - 1)));
}
