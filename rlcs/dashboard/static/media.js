// Images and video frames of a problem, with boxes and points drawn over them.

import { exported, runPath } from "./data.js";
import { el, svg } from "./dom.js";

const LOOK = {
  reference: { stroke: "#0072B2", dash: "", name: "reference", mark: "R" },
  predicted: { stroke: "#D55E00", dash: "6 4", name: "predicted", mark: "P" },
};

// The address of an image, or null where an exported file does not hold it.
export function mediaSource(run, index, n, frame = null) {
  const at = runPath(run, `problems/${index}/media/${n}${frame === null ? "" : `/${frame}`}`);
  return exported ? (exported.media?.[at] ?? null) : at;
}

function shapeOf(shape, kind, unit) {
  const { stroke, dash, mark } = LOOK[kind];
  const look = {
    fill: "none",
    stroke,
    "stroke-width": 2 * unit,
    "stroke-dasharray": dash
      ? dash
          .split(" ")
          .map((part) => part * unit)
          .join(" ")
      : null,
  };
  const back = { ...look, stroke: "#ffffff", "stroke-width": 4 * unit, "stroke-dasharray": null, "stroke-opacity": 0.8 };
  const title = svg(
    "title",
    {},
    [
      LOOK[kind].name,
      shape.label,
      shape.iou === null || shape.iou === undefined ? null : `IoU ${shape.iou.toFixed(2)}`,
      shape.hit === true ? "hit" : shape.hit === false ? "missed" : null,
    ]
      .filter(Boolean)
      .join(", "),
  );
  const [[x, y]] = shape.points;
  let draw;
  if (shape.kind === "box") {
    const [[x0, y0], [x1, y1]] = shape.points;
    const place = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
    draw = (style) => svg("rect", { ...place, ...style });
  } else if (shape.kind === "point") {
    const arm = 6 * unit;
    // A reference is a ring, a prediction a cross: not told apart by colour alone.
    draw = (style) =>
      kind === "reference"
        ? svg("circle", { cx: x, cy: y, r: arm, ...style })
        : svg("path", {
            d: `M${x - arm} ${y - arm}L${x + arm} ${y + arm}M${x - arm} ${y + arm}L${x + arm} ${y - arm}`,
            ...style,
            "stroke-dasharray": null,
          });
  } else {
    draw = (style) => svg("polygon", { points: shape.points.map((point) => point.join(",")).join(" "), ...style });
  }
  const caption = [mark, shape.iou === null || shape.iou === undefined ? "" : shape.iou.toFixed(2)].filter(Boolean).join(" ");
  const size = 10 * unit;
  const left = Math.min(...shape.points.map(([px]) => px)) + (kind === "predicted" ? 2.2 * size : 0);
  const top = Math.max(size, Math.min(...shape.points.map(([, py]) => py)) - 3 * unit);
  const words = svg(
    "text",
    {
      x: left,
      y: top,
      "font-size": size,
      "font-weight": "bold",
      fill: stroke,
      stroke: "#ffffff",
      "stroke-width": 2.5 * unit,
      "paint-order": "stroke",
    },
    caption,
  );
  return svg("g", { class: `shape ${kind}` }, title, draw(back), draw(look), words);
}

// One image at up to `width` CSS pixels, enlarged where it is small; `geometry` as the server gives it.
function picture(source, media, geometry, width) {
  const [w, h] = [geometry?.width ?? media.width ?? 1, geometry?.height ?? media.height ?? 1];
  const scale = Math.max(0.2, Math.min(width / w, 360 / h, 6));
  const unit = 1 / scale;
  const shapes = geometry
    ? [
        ...geometry.reference.map((shape) => shapeOf(shape, "reference", unit)),
        ...geometry.predicted.map((shape) => shapeOf(shape, "predicted", unit)),
      ]
    : [];
  const image = svg("image", { width: w, height: h, style: { imageRendering: scale > 2 ? "pixelated" : "auto" } });
  image.setAttributeNS(null, "href", source);
  const words = geometry ? `, ${geometry.reference.length} reference and ${geometry.predicted.length} predicted shapes` : "";
  return svg(
    "svg",
    {
      viewBox: `0 0 ${w} ${h}`,
      width: Math.round(w * scale),
      height: Math.round(h * scale),
      role: "img",
      "aria-label": `${media.name}${words}`,
    },
    image,
    shapes,
  );
}

export function mediaRow(run, index, list, geometry = null, width = 420) {
  if (!list?.length) return null;
  const figures = list.map((media) => {
    const over = geometry && geometry.media === media.n ? geometry : null;
    if (media.error) return el("p", { class: "remark" }, `${media.name}: ${media.error}`);
    const frames = media.kind === "video" ? Array.from({ length: Math.min(media.frames, 16) }, (_, frame) => frame) : [null];
    return frames.map((frame) => {
      const source = mediaSource(run, index, media.n, frame);
      if (source === null) return el("p", { class: "remark" }, `${media.name} is not in this file.`);
      const when = frame === null || !media.seconds ? "" : ` at ${media.seconds[frame]} s`;
      return el(
        "figure",
        {},
        picture(source, media, over, frame === null ? width : 150),
        el(
          "figcaption",
          {},
          frame === null ? `${media.name}${media.width ? `, ${media.width}×${media.height}` : ""}` : `frame ${frame}${when}`,
        ),
      );
    });
  });
  const legend = geometry
    ? el(
        "p",
        { class: "legend" },
        el("span", {}, "R ", el("b", { class: "good" }, "——"), " reference"),
        el("span", {}, "P ", el("b", { class: "bad" }, "– –"), " predicted"),
        geometry.note ? el("span", {}, geometry.note) : null,
      )
    : null;
  return el("div", {}, el("div", { class: "media" }, figures), legend);
}
