/**
 * Reads one layer-day block: a 64-byte header and the uint16 values of every step and cell.
 *
 * The block is the API's `GET /api/v1/layers/{layer}/{day}/{version}`. A value is
 * `raw * scale + offset`; the raw value `nodata` means that nothing is known there.
 */

const HEADER_BYTES = 64;
const MAX_CELLS = 200_000;
const MAX_STEPS = 400;

/** The bytes are not a layer block that this page can read. */
export class BlockDamaged extends Error {
  override name = "BlockDamaged";
}

export interface Block {
  readonly cells: number;
  readonly steps: number;
  readonly scale: number;
  readonly offset: number;
  readonly nodata: number;
  readonly raw: Uint16Array;
}

export function decodeBlock(bytes: ArrayBuffer): Block {
  if (bytes.byteLength < HEADER_BYTES) {
    throw new BlockDamaged(`expected a header of ${HEADER_BYTES} bytes, came ${bytes.byteLength}`);
  }
  const view = new DataView(bytes);
  const magic = String.fromCharCode(...new Uint8Array(bytes, 0, 4));
  if (magic !== "LSB1") throw new BlockDamaged(`expected magic LSB1, came ${JSON.stringify(magic)}`);
  const version = view.getUint16(4, true);
  if (version !== 1) throw new BlockDamaged(`expected header version 1, came ${version}`);
  const dtype = view.getUint16(6, true);
  if (dtype !== 16) throw new BlockDamaged(`expected 16-bit values, came dtype ${dtype}`);
  const cells = view.getUint32(8, true);
  const steps = view.getUint32(12, true);
  if (cells > MAX_CELLS || steps > MAX_STEPS) {
    throw new BlockDamaged(`${cells} cells x ${steps} steps is more than this page draws`);
  }
  const expected = HEADER_BYTES + 2 * cells * steps;
  if (bytes.byteLength !== expected) {
    throw new BlockDamaged(`expected ${expected} bytes, came ${bytes.byteLength}`);
  }
  return {
    cells,
    steps,
    scale: view.getFloat64(16, true),
    offset: view.getFloat64(24, true),
    nodata: view.getUint16(32, true),
    raw: littleEndian(bytes, cells * steps),
  };
}

/** The value of one cell at one step in the layer's unit, or null where nothing is known. */
export function valueAt(block: Block, step: number, cell: number): number | null {
  if (step < 0 || step >= block.steps || cell < 0 || cell >= block.cells) return null;
  const raw = block.raw[step * block.cells + cell];
  if (raw === undefined || raw === block.nodata) return null;
  return raw * block.scale + block.offset;
}

/** How many cells of a step carry a value. */
export function cellsKnown(block: Block, step: number): number {
  if (step < 0 || step >= block.steps) return 0;
  let known = 0;
  const end = (step + 1) * block.cells;
  for (let at = step * block.cells; at < end; at++) if (block.raw[at] !== block.nodata) known++;
  return known;
}

/** The highest value of a step, or null where none is known. */
export function highestKnown(block: Block, step: number): number | null {
  let highest: number | null = null;
  for (let cell = 0; cell < block.cells; cell++) {
    const value = valueAt(block, step, cell);
    if (value !== null && (highest === null || value > highest)) highest = value;
  }
  return highest;
}

function littleEndian(bytes: ArrayBuffer, count: number): Uint16Array {
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] === 1) {
    return new Uint16Array(bytes, HEADER_BYTES, count);
  }
  const view = new DataView(bytes);
  return Uint16Array.from({ length: count }, (_, i) => view.getUint16(HEADER_BYTES + 2 * i, true));
}
