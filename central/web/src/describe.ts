/** What is shown at one moment, in words: for the tooltip and for whoever listens. */
import type { Cell, LayerInfo, MeterEvent, Transformer } from "./api";
import { cellsKnown, highestKnown, type Block } from "./block";
import { exact, percent, words } from "./words";

/** One line of a description: its role, and the text. */
export type Line = [role: string, text: string];

export function describeTransformer(
  id: string,
  transformer: Transformer | undefined,
  utilisation: number | null,
  when: string,
): Line[] {
  return [
    ["value", percent(utilisation)],
    ["name", `${transformer?.name ?? id} · ${words.rating(transformer?.rated_kva ?? 0)}`],
    ["name", when],
  ];
}

export function describeCell(
  layer: LayerInfo,
  cell: Cell | undefined,
  value: number | null,
  when: string,
): Line[] {
  return [
    ["value", value === null ? words.noData : `${exact(value)} ${layer.unit}`],
    ["name", layer.title],
    ["name", cell ? words.servicePoints(cell.service_points) : ""],
    ["name", when],
  ];
}

/** What an event log says: which meter and what, and the further columns of the entry. */
export function describeEvent(event: MeterEvent): [what: string, detail: string] {
  return [`${event.meter} · ${event.log.replaceAll("_", " ")} ${event.code}`, event.detail];
}

/** The whole map at one moment in a sentence or two. */
export function summary(
  layer: LayerInfo,
  when: string,
  block: Block | null,
  step: number,
  cells: number,
  transformers: readonly Transformer[],
  utilisationOf: (id: string) => number | null,
): string {
  const highest = block === null ? null : highestKnown(block, step);
  return words.summary(
    layer.title,
    when,
    highest === null ? words.noData : `${exact(highest)} ${layer.unit}`,
    block === null ? 0 : cellsKnown(block, step),
    cells,
    fullest(transformers, utilisationOf),
  );
}

function fullest(
  transformers: readonly Transformer[],
  utilisationOf: (id: string) => number | null,
): string {
  let name: string | null = null;
  let highest = -Infinity;
  for (const transformer of transformers) {
    const value = utilisationOf(transformer.id);
    if (value !== null && value > highest) {
      name = transformer.name;
      highest = value;
    }
  }
  return name === null ? "" : words.highestTransformer(name, percent(highest, 0));
}
