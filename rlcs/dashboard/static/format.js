// Numbers, times and words as the pages show them. A missing number is a dash.

export const MISSING = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function fixed(value, digits = 2) {
  return isNumber(value) ? value.toFixed(digits).replace("-", "−") : MISSING;
}

export function percent(value, digits = 0) {
  return isNumber(value) ? `${fixed(100 * value, digits)}%` : MISSING;
}

// Percentage points with their sign.
export function points(value, digits = 1) {
  return isNumber(value) ? `${value >= 0 ? "+" : ""}${fixed(100 * value, digits)}` : MISSING;
}

export function whole(value) {
  return isNumber(value) ? Math.round(value).toLocaleString("en-GB") : MISSING;
}

// 12,345,678 as 12.3 M.
export function compact(value) {
  if (!isNumber(value)) return MISSING;
  for (const [size, sign] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e4, "k"],
  ]) {
    if (Math.abs(value) >= size) {
      const unit = sign === "k" ? 1e3 : size;
      return `${fixed(value / unit, Math.abs(value / unit) < 100 ? 1 : 0)} ${sign}`;
    }
  }
  return Number.isInteger(value) ? whole(value) : significant(value);
}

export function significant(value, digits = 3) {
  if (!isNumber(value)) return MISSING;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(digits - 1).replace("-", "−");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

export function duration(seconds) {
  if (!isNumber(seconds)) return MISSING;
  if (seconds < 60) return `${fixed(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.round((seconds % 86400) / 3600)} h`;
}

export function ago(time, now = Date.now() / 1000) {
  return isNumber(time) ? `${duration(Math.max(0, now - time)).replace(/ \d+ s$/, "")} ago` : MISSING;
}

export function plural(count, word) {
  return `${whole(count)} ${word}${count === 1 ? "" : "s"}`;
}
