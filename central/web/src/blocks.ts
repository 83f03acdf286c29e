/**
 * Layer-day blocks in memory. A block is fetched once per version and kept; moving the
 * slider inside a day never asks the network. The newest version replaces an older one only
 * when it is here, so the picture never goes blank in between.
 */
import { api, ApiError } from "./api";
import { BlockDamaged, decodeBlock, type Block } from "./block";
import { words } from "./words";

const MOST_BLOCKS = 64;

interface Held {
  readonly version: string;
  readonly block: Block;
}

export class Blocks {
  readonly #held = new Map<string, Held>();
  readonly #asked = new Map<string, Promise<Block>>();

  constructor(readonly cellCount: () => number) {}

  /** The newest block in memory, perhaps of an older version; null when there is none. */
  peek(layer: string, day: string): Block | null {
    return this.#held.get(`${layer}/${day}`)?.block ?? null;
  }

  /** The block of this version, from memory or from the API. */
  async get(layer: string, day: string, version: string): Promise<Block> {
    const key = `${layer}/${day}`;
    const held = this.#held.get(key);
    if (held?.version === version) return held.block;
    const asking = `${key}/${version}`;
    let asked = this.#asked.get(asking);
    if (!asked) {
      asked = this.#fetch(layer, day, version).finally(() => this.#asked.delete(asking));
      this.#asked.set(asking, asked);
    }
    return asked;
  }

  async #fetch(layer: string, day: string, version: string): Promise<Block> {
    const bytes = await api.layerBlock(layer, day, version);
    let block: Block;
    try {
      block = decodeBlock(bytes);
    } catch (cause) {
      if (!(cause instanceof BlockDamaged)) throw cause;
      throw new ApiError(words.error.damaged(cause.message), words.remedy.reload, null);
    }
    if (block.cells !== this.cellCount()) {
      throw new ApiError(
        words.error.cells(block.cells, this.cellCount()),
        words.remedy.reload,
        null,
      );
    }
    const key = `${layer}/${day}`;
    this.#held.delete(key);
    this.#held.set(key, { version, block });
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= MOST_BLOCKS) break;
      this.#held.delete(oldest);
    }
    return block;
  }
}
