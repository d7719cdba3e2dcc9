// Which model grew out of which, as lines beside the list of versions.

import { s } from "./dom.js";

const ROW = 56;
const LANE = 18;

/** A drawing as high as the list: a dot for each version, and a line to its parent. Lane 0 served, lane 1 did not. */
export function lineage(models) {
  const served = new Set(["champion", "previous", "archived"]);
  const where = new Map(
    models.map((model, index) => [
      model.version,
      { x: 14 + (served.has(model.state) ? 0 : LANE), y: ROW * index + ROW / 2 },
    ]),
  );
  const lines = models.map((model) => {
    const from = where.get(model.version);
    if (!model.parent) return null;
    const to = where.get(model.parent) ?? { x: from.x, y: ROW * models.length };
    const bend =
      from.x === to.x
        ? ""
        : `C ${from.x} ${from.y + ROW * 0.6}, ${to.x} ${from.y + ROW * 0.4}, ${to.x} ${Math.min(to.y, from.y + ROW)} `;
    return s("path", { class: "line", d: `M ${from.x} ${from.y} ${bend}L ${to.x} ${to.y}` });
  });
  const dots = models.map((model) => {
    const { x, y } = where.get(model.version);
    return s("circle", { class: `dot ${model.state}`, cx: x, cy: y, r: 5.5 });
  });
  const height = ROW * models.length;
  return s(
    "svg",
    { class: "lineage", width: 46, height, viewBox: `0 0 46 ${height}`, "aria-hidden": "true" },
    lines,
    dots,
  );
}
