/** The map: ground, cells, lines, transformers, names; pointer and keyboard on them. */
import {
  Map as MapLibre,
  NavigationControl,
  ScaleControl,
  setWorkerUrl,
  type GeoJSONSource,
  type MapMouseEvent,
  type StyleSpecification,
} from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import type { Feature, FeatureCollection } from "geojson";
import type { Cell, Transformer } from "./api";
import { CellsLayer } from "./cells_layer";
import { reducedMotion } from "./dom";
import type { Selection } from "./permalink";
import { CellIndex } from "./pick";
import { css, NO_DATA, TRANSFORMER_COLOURS, type Rgb } from "./scale";
import { words } from "./words";

const GROUND = "#10151b";
const UNKNOWN = "#4a545f";
const FONT = ["Noto Sans", "Liberation Sans", "Arial", "sans-serif"];

export interface MapEvents {
  hover(target: Selection | null, x: number, y: number): void;
  select(target: Selection | null): void;
  /** The keyboard's cursor moved to a cell. */
  cursor(cell: number): void;
}

export function webGl2Works(): boolean {
  return document.createElement("canvas").getContext("webgl2") !== null;
}

export class TownMap {
  readonly #map: MapLibre;
  readonly #loaded: Promise<void>;
  #cells: readonly Cell[] = [];
  #index: CellIndex | null = null;
  #layer: CellsLayer | null = null;
  #cursor: number | null = null;

  constructor(
    container: HTMLElement,
    bbox: readonly [number, number, number, number],
    readonly events: MapEvents,
  ) {
    setWorkerUrl(workerUrl);
    this.#map = new MapLibre({
      container,
      style: emptyStyle(),
      bounds: [bbox[0], bbox[1], bbox[2], bbox[3]],
      fitBoundsOptions: { padding: 36 },
      attributionControl: false,
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      keyboard: false,
      fadeDuration: 0,
      renderWorldCopies: false,
      canvasContextAttributes: { antialias: true },
    });
    this.#map.touchZoomRotate.disableRotation();
    this.#map.addControl(new NavigationControl({ showCompass: false }), "top-right");
    this.#map.addControl(new ScaleControl({ unit: "metric", maxWidth: 120 }), "bottom-right");
    this.#loaded = new Promise((resolve) => void this.#map.once("load", () => resolve()));
    const canvas = this.#map.getCanvas();
    canvas.setAttribute("aria-label", words.map);
    canvas.setAttribute("aria-roledescription", "map");
    canvas.addEventListener("keydown", (event) => this.#key(event));
    // Whoever waits for the picture (a test, a screenshot) can see when it is complete.
    this.#map.on("idle", () => {
      container.dataset["drawn"] = String(Number(container.dataset["drawn"] ?? 0) + 1);
    });
    this.#map.on("mousemove", (event) => this.#pointer(event));
    this.#map.on("mouseout", () => this.events.hover(null, 0, 0));
    this.#map.on("click", (event) => this.events.select(this.#under(event)));
  }

  get canvas(): HTMLCanvasElement {
    return this.#map.getCanvas();
  }

  async setGrid(
    cells: readonly Cell[],
    network: FeatureCollection,
    transformers: readonly Transformer[],
  ): Promise<void> {
    await this.#loaded;
    this.#cells = cells;
    this.#index = new CellIndex(cells.map((c) => c.ring));
    this.#layer = new CellsLayer(cells);
    this.#map.addLayer(this.#layer);
    addNetwork(this.#map, network);
    addOutlines(this.#map);
    addTransformers(this.#map, transformers);
  }

  setColours(colours: readonly Rgb[]): void {
    this.#layer?.setColours(colours);
  }

  setClasses(classOfCell: (cell: number) => number): void {
    this.#layer?.setClasses(classOfCell);
  }

  setTransformerClasses(classes: ReadonlyMap<string, number>): void {
    if (!this.#map.getSource("transformers")) return;
    for (const [id, found] of classes) {
      this.#map.setFeatureState({ source: "transformers", id }, { class: found });
    }
  }

  setSelection(selection: Selection | null): void {
    this.#outline("selected", selection?.kind === "cell" ? selection.index : null);
    const id = selection?.kind === "transformer" ? selection.id : "";
    if (this.#map.getLayer("transformer-selected")) {
      this.#map.setFilter("transformer-selected", ["==", ["get", "id"], id]);
      this.#map.setPaintProperty("mains", "line-color", lineColour(id, "#8195a8"));
      this.#map.setPaintProperty("services", "line-color", lineColour(id, "#667888"));
    }
  }

  showTransformer(transformer: Transformer): void {
    const place: [number, number] = [transformer.lon, transformer.lat];
    if (!this.#map.getBounds().contains(place)) this.#moveTo(place);
  }

  resize(): void {
    this.#map.resize();
  }

  /** The next picture is drawn; for tests and figures. */
  drawn(): Promise<void> {
    return new Promise((resolve) => {
      void this.#map.once("render", () => resolve());
      this.#map.triggerRepaint();
    });
  }

  #under(event: MapMouseEvent): Selection | null {
    if (this.#map.getLayer("transformers")) {
      const { x, y } = event.point;
      const found = this.#map.queryRenderedFeatures([[x - 4, y - 4], [x + 4, y + 4]], {
        layers: ["transformers"],
      })[0];
      const id: unknown = found?.properties["id"];
      if (typeof id === "string") return { kind: "transformer", id };
    }
    const cell = this.#index?.find(event.lngLat.lng, event.lngLat.lat) ?? null;
    return cell === null ? null : { kind: "cell", index: this.#cells[cell]!.index };
  }

  #pointer(event: MapMouseEvent): void {
    const target = this.#under(event);
    this.canvas.classList.toggle("pointing", target !== null);
    this.#outline("hovered", target?.kind === "cell" ? target.index : null);
    this.events.hover(target, event.point.x, event.point.y);
  }

  #outline(source: "hovered" | "selected", index: number | null): void {
    const cell = index === null ? undefined : this.#cells[index];
    const features: Feature[] = cell
      ? [
          {
            type: "Feature",
            properties: {},
            geometry: { type: "Polygon", coordinates: [cell.ring.map((p) => [...p])] },
          },
        ]
      : [];
    this.#map.getSource<GeoJSONSource>(source)?.setData({ type: "FeatureCollection", features });
  }

  #key(event: KeyboardEvent): void {
    const arrows: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const way = arrows[event.key];
    if (way) this.#moveCursor(way);
    else if (event.key === "Enter" && this.#cursor !== null) {
      this.events.select({ kind: "cell", index: this.#cursor });
    } else if (event.key === "+" || event.key === "=") this.#map.zoomIn({ animate: !reducedMotion() });
    else if (event.key === "-") this.#map.zoomOut({ animate: !reducedMotion() });
    else return;
    event.preventDefault();
  }

  #moveCursor(way: [number, number]): void {
    if (this.#cells.length === 0) return;
    const centre = this.#map.getCenter();
    const squeeze = Math.cos((centre.lat * Math.PI) / 180);
    const from = this.#cursor === null ? null : middle(this.#cells[this.#cursor]!);
    const [x0, y0] = from ?? [centre.lng, centre.lat];
    let best: number | null = null;
    let least = Infinity;
    this.#cells.forEach((cell, i) => {
      if (i === this.#cursor) return;
      const [x, y] = middle(cell);
      const dx = (x - x0) * squeeze;
      const dy = y - y0;
      const along = dx * way[0] + dy * way[1];
      const across = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      // Without a cursor the nearest cell to the centre is the start, whatever the arrow.
      const cost = from === null ? Math.hypot(dx, dy) : along > across * 0.55 ? along + 2 * across : Infinity;
      if (cost < least) [least, best] = [cost, i];
    });
    if (best === null) return;
    this.#cursor = best;
    this.#outline("hovered", best);
    const place = middle(this.#cells[best]!);
    if (!this.#map.getBounds().contains(place)) this.#moveTo(place);
    this.events.cursor(this.#cells[best]!.index);
  }

  #moveTo(place: [number, number]): void {
    if (reducedMotion()) this.#map.jumpTo({ center: place });
    else this.#map.easeTo({ center: place, duration: 350 });
  }
}

function emptyStyle(): StyleSpecification {
  return {
    version: 8,
    sources: {},
    layers: [{ id: "ground", type: "background", paint: { "background-color": GROUND } }],
  };
}

function lineColour(transformer: string, otherwise: string): ["case", ...unknown[]] & never {
  return ["case", ["==", ["get", "transformer"], transformer], "#f4f7fa", otherwise] as never;
}

function addNetwork(map: MapLibre, network: FeatureCollection): void {
  map.addSource("network", { type: "geojson", data: network, tolerance: 0.2 });
  map.addLayer({
    id: "services",
    type: "line",
    source: "network",
    minzoom: 13.5,
    filter: ["==", ["get", "kind"], "service"],
    paint: {
      "line-color": "#667888",
      "line-opacity": ["interpolate", ["linear"], ["zoom"], 13.5, 0.35, 16, 0.9],
      "line-width": ["interpolate", ["linear"], ["zoom"], 13.5, 0.4, 16, 1, 18, 1.8],
    },
  });
  map.addLayer({
    id: "mains",
    type: "line",
    source: "network",
    filter: ["!=", ["get", "kind"], "service"],
    layout: { "line-cap": "round", "line-join": "round" },
    paint: {
      "line-color": "#8195a8",
      "line-opacity": 0.9,
      "line-width": ["interpolate", ["linear"], ["zoom"], 12, 0.6, 15, 1.2, 18, 3],
    },
  });
}

function addOutlines(map: MapLibre): void {
  for (const [id, colour, width] of [
    ["hovered", "#ffffff", 1.6],
    ["selected", "#ffffff", 2.6],
  ] as const) {
    map.addSource(id, { type: "geojson", data: { type: "FeatureCollection", features: [] } });
    map.addLayer({
      id,
      type: "line",
      source: id,
      paint: { "line-color": colour, "line-width": width },
    });
  }
}

function addTransformers(map: MapLibre, transformers: readonly Transformer[]): void {
  map.addSource("transformers", {
    type: "geojson",
    promoteId: "id",
    data: {
      type: "FeatureCollection",
      features: transformers.map((t) => ({
        type: "Feature",
        properties: { id: t.id, name: t.name, size: Math.sqrt(t.rated_kva / 400) },
        geometry: { type: "Point", coordinates: [t.lon, t.lat] },
      })),
    },
  });
  const found = ["coalesce", ["feature-state", "class"], NO_DATA];
  const colour = [
    "match",
    found,
    ...TRANSFORMER_COLOURS.flatMap((c, i) => [i, css(c).replaceAll(" ", ",")]),
    UNKNOWN,
  ] as never;
  map.addLayer({
    id: "transformer-over",
    type: "circle",
    source: "transformers",
    paint: {
      "circle-radius": ["interpolate", ["linear"], ["zoom"], 12, 9, 15, 13, 18, 20],
      "circle-color": "rgba(0,0,0,0)",
      "circle-stroke-color": colour,
      "circle-stroke-width": 2,
      // Above 100 % the symbol gets a second ring: the state is not told by colour alone.
      "circle-stroke-opacity": ["case", ["==", found as never, 3], 1, 0] as never,
    },
  });
  map.addLayer({
    id: "transformers",
    type: "circle",
    source: "transformers",
    paint: {
      "circle-radius": ["interpolate", ["linear"], ["zoom"], 12, 5, 15, 8, 18, 13],
      "circle-color": colour,
      "circle-stroke-color": "#0b0f13",
      "circle-stroke-width": 2,
    },
  });
  map.addLayer({
    id: "transformer-selected",
    type: "circle",
    source: "transformers",
    filter: ["==", ["get", "id"], ""],
    paint: {
      "circle-radius": ["interpolate", ["linear"], ["zoom"], 12, 12, 15, 17, 18, 24],
      "circle-color": "rgba(0,0,0,0)",
      "circle-stroke-color": "#ffffff",
      "circle-stroke-width": 2,
    },
  });
  map.addLayer({
    id: "transformer-names",
    type: "symbol",
    source: "transformers",
    layout: {
      "text-field": ["get", "name"],
      "text-font": FONT,
      "text-size": ["interpolate", ["linear"], ["zoom"], 12, 10, 15, 12, 18, 14],
      "text-anchor": "left",
      "text-offset": [1, 0],
    },
    paint: {
      "text-color": "#f2f5f8",
      "text-halo-color": "#0b0f13",
      "text-halo-width": 1.6,
    },
  });
}

function middle(cell: Cell): [number, number] {
  const ring = cell.ring.slice(0, -1);
  return [
    ring.reduce((sum, p) => sum + p[0], 0) / ring.length,
    ring.reduce((sum, p) => sum + p[1], 0) / ring.length,
  ];
}
