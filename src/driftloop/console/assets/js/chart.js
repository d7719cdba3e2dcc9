// Line charts with axes, units, a legend and the numbers behind them, in the page's colours.

import { fill, h, table } from "./dom.js";
import { number } from "./format.js";

/* global uPlot */

const LEAST_WIDTH = 46;

/** The width of an axis whose longest number has room. uPlot asks again until widths and ticks agree. */
function wideEnough(drawn, numbers, which, round) {
  const axis = drawn.axes[which];
  if (round > 1) return axis._size;
  const longest = (numbers ?? []).reduce((most, one) => (one.length > most.length ? one : most), "");
  drawn.ctx.font = axis.font[0];
  const width = drawn.ctx.measureText(longest).width / devicePixelRatio;
  return Math.max(LEAST_WIDTH, Math.ceil(width) + axis.ticks.size + axis.gap);
}

const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000, 1_000_000];
/** Of lines, in their order. */
export const COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4"];

/** A colour of the stylesheet as the browser computes it now, light or dark. */
function colour(name, alpha = 1) {
  const probe = document.body.appendChild(h("span", { class: "probe", style: { color: `var(${name})` } }));
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g);
  probe.remove();
  return alpha === 1 ? `rgb(${red} ${green} ${blue})` : `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}

/**
 * A chart over one axis. `lines` are `[{name, values, colour, dash, step}]`; `band` is `{name, low, high}`, drawn below
 * them; `limits` are horizontal lines `[{name, value, colour}]`; `marks` vertical ones `[{name, at}]`. `x` is `{name, values, range, whole}`,
 * `y` is `{name, digits, from, to, log}`. `summary` says in one sentence what it shows. Charts of one name in `together`
 * show the same place when the pointer is over one of them.
 */
export function chart({
  x,
  y,
  lines,
  band = null,
  limits = [],
  marks = [],
  height = 260,
  summary,
  compact = false,
  together = null,
}) {
  const plot = h("div", { class: "plot", role: "img", "aria-label": summary });
  const legend = compact ? null : legendOf(lines, band, limits);
  const node = h(
    "figure",
    { class: compact ? "chart compact" : "chart" },
    legend,
    plot,
    compact ? null : numbers(x, y, lines, band),
  );
  let drawn = null;

  function draw() {
    const width = Math.floor(plot.clientWidth);
    if (width < 40) return;
    drawn?.destroy();
    drawn = new uPlot(options(width), data(), plot);
  }

  function data() {
    const straight = limits.map((limit) => x.values.map(() => limit.value));
    return [x.values, ...lines.map((line) => line.values), ...(band ? [band.high, band.low] : []), ...straight];
  }

  function options(width) {
    const [ink, grid] = [colour("--muted"), colour("--line")];
    const font = `${compact ? 11 : 12}px ${getComputedStyle(document.body).fontFamily}`;
    const axis = {
      stroke: ink,
      grid: { stroke: grid, width: 1 },
      ticks: { stroke: grid, width: 1, size: 4 },
      font,
      labelFont: font,
      labelSize: 18,
      gap: 4,
    };
    const first = 1 + lines.length;
    return {
      width,
      height: compact ? 120 : height,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        points: { size: 7 },
        drag: { x: false, y: false },
        sync: together ? { key: together } : undefined,
      },
      scales: {
        x: { time: false, range: x.range },
        y: y.log ? { distr: 3 } : { range: (_, low, high) => range(low, high) },
      },
      axes: [
        {
          ...axis,
          label: compact ? undefined : x.name,
          size: compact ? 22 : 30,
          space: 60,
          incrs: x.whole ? WHOLE : undefined,
        },
        {
          ...axis,
          label: compact ? undefined : y.name,
          size: wideEnough,
          space: 30,
          ...(y.log
            ? { filter: tens, grid: { ...axis.grid, filter: tens }, ticks: { ...axis.ticks, filter: tens } }
            : {}),
          values: (_, ticks) =>
            ticks.map((tick) =>
              tick === null ? "" : Math.abs(tick) >= 10_000 ? number(tick) : String(Number(tick.toPrecision(6))),
            ),
        },
      ],
      series: [
        {},
        ...lines.map((line, index) => ({
          label: line.name,
          stroke: colour(line.colour ?? COLOURS[index]),
          width: compact ? 1.5 : 2,
          dash: line.dash,
          points: { show: x.values.length < 3 },
          spanGaps: line.gaps === true,
          paths: line.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
        })),
        ...(band ? [edge(band.name), edge(band.name)] : []),
        ...limits.map((limit) => ({
          label: limit.name,
          stroke: colour(limit.colour ?? "--bad"),
          width: 1.5,
          dash: [5, 4],
          points: { show: false },
        })),
      ],
      bands: band ? [{ series: [first, first + 1], fill: colour(band.colour ?? "--band", 0.28) }] : [],
      hooks: { setCursor: [tip], draw: [drawMarks] },
    };
  }

  /** Of a logarithmic axis only the powers of ten. */
  const tens = (_, splits) => splits.map((split) => (Math.abs(Math.log10(split) % 1) < 1e-9 ? split : null));

  const edge = (name) => ({
    label: name,
    stroke: colour(band.colour ?? "--band", 0.5),
    width: 1,
    points: { show: false },
  });

  function range(low, high) {
    const [from, to] = [y.from ?? low ?? 0, Math.max(high ?? 1, y.to ?? -Infinity)];
    const room = (to - from || Math.abs(to) || 1) * 0.06;
    return [y.from === undefined ? from - room : from, to + room];
  }

  function drawMarks(plotted) {
    if (!marks.length) return;
    const { ctx, bbox } = plotted;
    ctx.save();
    ctx.strokeStyle = colour("--muted");
    ctx.fillStyle = colour("--ink");
    ctx.lineWidth = devicePixelRatio;
    const ground = colour("--surface");
    ctx.font = `${12 * devicePixelRatio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    let [before, line] = [-Infinity, 0];
    for (const mark of marks) {
      const at = plotted.valToPos(mark.at, "x", true);
      if (at < bbox.left || at > bbox.left + bbox.width) continue;
      // Names of marks that lie close together stand below each other.
      line = at - before < 42 * devicePixelRatio ? line + 1 : 0;
      before = at;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
      const place = [mark.name, at + 4, bbox.top + (12 + 14 * line) * devicePixelRatio];
      ctx.save();
      ctx.setLineDash([]);
      ctx.lineWidth = 4 * devicePixelRatio;
      ctx.strokeStyle = ground;
      ctx.strokeText(...place);
      ctx.restore();
      ctx.fillText(...place);
    }
    ctx.restore();
  }

  const hint = h("div", { class: "tip", hidden: true });
  function tip(plotted) {
    const { idx, left } = plotted.cursor;
    if (idx === null || idx === undefined || left < 0) {
      hint.hidden = true;
      return;
    }
    if (hint.parentNode !== plotted.over) plotted.over.append(hint);
    hint.hidden = false;
    fill(
      hint,
      h("strong", {}, `${x.label ?? x.name} ${abscissa(x, idx)}`),
      lines.map(
        (line, index) =>
          typeof line.values[idx] === "number" &&
          h(
            "span",
            {},
            swatch(line.colour ?? COLOURS[index]),
            `${line.name}: ${number(line.values[idx], y.digits ?? 1)}${y.unit ? ` ${y.unit}` : ""}`,
          ),
      ),
      band &&
        typeof band.low[idx] === "number" &&
        h(
          "span",
          {},
          swatch(band.colour ?? "--band"),
          `${band.name}: ${number(band.low[idx], y.digits ?? 1)} to ${number(band.high[idx], y.digits ?? 1)}`,
        ),
    );
    const far = left > plotted.over.clientWidth / 2;
    hint.style.left = far ? "" : `${left + 10}px`;
    hint.style.right = far ? `${plotted.over.clientWidth - left + 10}px` : "";
  }

  const observer = new ResizeObserver(() => (node.isConnected ? draw() : leave()));
  observer.observe(plot);
  addEventListener("themechange", draw);
  return node;

  /** Taken out of the page, as by newer answers: nothing of it stays behind in the window's listeners. */
  function leave() {
    observer.disconnect();
    removeEventListener("themechange", draw);
    drawn?.destroy();
  }
}

const swatch = (name) => h("i", { class: "swatch", style: { "background-color": `var(${name})` } });

function legendOf(lines, band, limits) {
  return h(
    "figcaption",
    { class: "legend" },
    lines.map((line, index) => h("span", {}, swatch(line.colour ?? COLOURS[index]), line.name)),
    band && h("span", {}, h("i", { class: "swatch band" }), band.name),
    limits.map((limit) =>
      h(
        "span",
        {},
        h("i", { class: "swatch dashed", style: { "border-top-color": `var(${limit.colour ?? "--bad"})` } }),
        limit.name,
      ),
    ),
  );
}

/** The numbers of a chart as a table, made when somebody opens it. */
function numbers(x, y, lines, band) {
  const body = h("div", {});
  const edges = band ? [{ name: "low", values: band.low }, { name: "high", values: band.high }] : [];
  const columns = [
    { name: x.name, class: "num", cell: (index) => abscissa(x, index) },
    ...[...lines, ...edges].map(({ name, values }) => ({
      name,
      class: "num",
      cell: (index) => number(values[index], y.digits ?? 1),
    })),
  ];
  const open = (event) => {
    if (!event.target.open) return;
    const made = table("Numbers of the chart", columns, [...x.values.keys()]);
    made.classList.add("short");
    fill(body, made);
  };
  return h("details", { class: "numbers", ontoggle: open }, h("summary", {}, "Numbers"), body);
}

const abscissa = (x, index) => number(x.values[index], x.digits ?? 0);
