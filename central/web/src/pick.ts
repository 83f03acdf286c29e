/** Which cell lies under a place: a grid of buckets, then point in polygon. Needs no GPU. */

export type Ring = readonly (readonly [lon: number, lat: number])[];

export class CellIndex {
  readonly #rings: readonly Ring[];
  readonly #buckets = new Map<number, number[]>();
  readonly #west: number;
  readonly #south: number;
  readonly #width: number;
  readonly #height: number;
  readonly #columns: number;

  constructor(rings: readonly Ring[]) {
    this.#rings = rings;
    const points = rings.flat();
    this.#west = points.reduce((least, p) => Math.min(least, p[0]), Infinity);
    this.#south = points.reduce((least, p) => Math.min(least, p[1]), Infinity);
    const east = points.reduce((most, p) => Math.max(most, p[0]), -Infinity);
    const north = points.reduce((most, p) => Math.max(most, p[1]), -Infinity);
    this.#columns = Math.max(1, Math.ceil(Math.sqrt(rings.length)));
    this.#width = Math.max(1e-9, (east - this.#west) / this.#columns);
    this.#height = Math.max(1e-9, (north - this.#south) / this.#columns);
    rings.forEach((ring, cell) => this.#enter(ring, cell));
  }

  /** Index of the cell that holds the place, or null. */
  find(lon: number, lat: number): number | null {
    const column = Math.floor((lon - this.#west) / this.#width);
    const row = Math.floor((lat - this.#south) / this.#height);
    for (const cell of this.#buckets.get(row * (this.#columns + 2) + column) ?? []) {
      if (inside(this.#rings[cell]!, lon, lat)) return cell;
    }
    return null;
  }

  #enter(ring: Ring, cell: number): void {
    const lons = ring.map((p) => p[0]);
    const lats = ring.map((p) => p[1]);
    const c0 = Math.floor((Math.min(...lons) - this.#west) / this.#width);
    const c1 = Math.floor((Math.max(...lons) - this.#west) / this.#width);
    const r0 = Math.floor((Math.min(...lats) - this.#south) / this.#height);
    const r1 = Math.floor((Math.max(...lats) - this.#south) / this.#height);
    for (let r = r0; r <= r1; r++) {
      for (let c = c0; c <= c1; c++) {
        const key = r * (this.#columns + 2) + c;
        const bucket = this.#buckets.get(key);
        if (bucket) bucket.push(cell);
        else this.#buckets.set(key, [cell]);
      }
    }
  }
}

function inside(ring: Ring, lon: number, lat: number): boolean {
  let odd = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [xi, yi] = ring[i]!;
    const [xj, yj] = ring[j]!;
    if (yi > lat !== yj > lat && lon < ((xj - xi) * (lat - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}
