/** The address after `#`: layer, time and selection, so that a view can be handed on. */

export type Selection =
  | { readonly kind: "transformer"; readonly id: string }
  | { readonly kind: "cell"; readonly index: number };

export interface View {
  readonly layer?: string;
  /** End of the shown interval, ISO 8601 in UTC to the minute; absent follows the newest. */
  readonly endUtcS?: number;
  readonly selection?: Selection;
}

export function writeView(view: View): string {
  const parts: string[] = [];
  if (view.layer) parts.push(`layer=${encodeURIComponent(view.layer)}`);
  if (view.endUtcS !== undefined) {
    parts.push(`time=${new Date(view.endUtcS * 1000).toISOString().slice(0, 16)}Z`);
  }
  if (view.selection?.kind === "transformer") {
    parts.push(`transformer=${encodeURIComponent(view.selection.id)}`);
  }
  if (view.selection?.kind === "cell") parts.push(`cell=${view.selection.index}`);
  return parts.length ? `#${parts.join("&")}` : "";
}

/** Reads an address; what it does not understand is left out, never guessed. */
export function readView(hash: string): View {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const view: { layer?: string; endUtcS?: number; selection?: Selection } = {};
  const layer = given.get("layer");
  if (layer && /^[a-z_]{1,40}$/.test(layer)) view.layer = layer;
  const time = given.get("time");
  if (time && /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}Z$/.test(time)) {
    const ms = Date.parse(time);
    if (Number.isFinite(ms)) view.endUtcS = ms / 1000;
  }
  const transformer = given.get("transformer");
  const cell = given.get("cell");
  if (transformer && transformer.length <= 80) {
    view.selection = { kind: "transformer", id: transformer };
  } else if (cell && /^\d{1,7}$/.test(cell)) {
    view.selection = { kind: "cell", index: Number(cell) };
  }
  return view;
}
