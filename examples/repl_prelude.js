// Runs once, inside the JavaScript machine of repl.ts, when its heap is new. What it
// makes lives in that heap from then on: console, and the object `repl`.
(() => {
  const MOST_ITEMS = 100;
  const DEEPEST = 3;
  const MOST_CHARACTERS = 10_000;
  const MOST_FRAMES = 8;
  const WIDTH = 76;

  const plainKey = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;
  const showKey = (key) =>
    typeof key === "symbol"
      ? `[${String(key)}]`
      : plainKey.test(key)
      ? key
      : JSON.stringify(key);

  const showString = (value) => {
    const more = value.length - MOST_CHARACTERS;
    const shown = JSON.stringify(more > 0 ? value.slice(0, MOST_CHARACTERS) : value);
    return more > 0 ? `${shown}… ${more} more characters` : shown;
  };

  const showNumber = (value) => Object.is(value, -0) ? "-0" : String(value);

  const showFunction = (value) => {
    const isClass = /^class\b/.test(Function.prototype.toString.call(value));
    return `[${isClass ? "class" : "Function"}: ${value.name || "(anonymous)"}]`;
  };

  const showError = (error) => {
    const frames = String(error.stack ?? "").trimEnd().split("\n");
    if (frames.length > MOST_FRAMES) frames.splice(MOST_FRAMES, Infinity, "    …");
    return [String(error), ...frames].filter((line) => line !== "").join("\n");
  };

  /** Puts short parts on as few lines as hold them. */
  const fill = (parts, indent) => {
    const lines = [];
    for (const part of parts) {
      const line = lines.at(-1);
      const fits = line && line.length + part.length + indent.length < WIDTH;
      if (fits) lines[lines.length - 1] = `${line}, ${part}`;
      else lines.push(part);
    }
    return lines;
  };

  /** Puts parts on one line, or each on its own where they are too long for that. */
  const join = (open, parts, close, indent) => {
    if (parts.length === 0) return open + close;
    const line = parts.join(", ");
    if (line.length + indent.length < WIDTH && !line.includes("\n")) {
      return close === "]" ? `${open}${line}${close}` : `${open} ${line} ${close}`;
    }
    const gap = `\n${indent}  `;
    if (close === "]" && parts.every((part) => part.length < 8)) parts = fill(parts, indent);
    return `${open}${gap}${parts.join(`,${gap}`)}\n${indent}${close}`;
  };

  const firstOf = (items, showItem) => {
    const parts = [];
    for (const item of items) {
      if (parts.length === MOST_ITEMS) {
        parts.push("…");
        break;
      }
      parts.push(showItem(item));
    }
    return parts;
  };

  const nameOf = (value) => {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === null) return "[null prototype] ";
    const { name } = prototype.constructor ?? {};
    return typeof name === "string" && name !== "" && name !== "Object" ? `${name} ` : "";
  };

  const showObject = (value, around, indent) => {
    if (around.includes(value)) return "[Circular]";
    const name = nameOf(value);
    if (around.length > DEEPEST) {
      return Array.isArray(value) ? "[Array]" : `[${name.trim() || "Object"}]`;
    }
    const inner = [...around, value];
    const show = (item) => showAny(item, inner, `${indent}  `);
    const property = (key) => {
      const { get, set, value: held } = Object.getOwnPropertyDescriptor(value, key);
      const accessor = [get && "Getter", set && "Setter"].filter(Boolean).join("/");
      return `${showKey(key)}: ${accessor ? `[${accessor}]` : show(held)}`;
    };
    const isIndex = (key) => typeof key === "string" && /^\d+$/.test(key);
    const keys = Reflect.ownKeys(value).filter((key) =>
      Object.prototype.propertyIsEnumerable.call(value, key)
    );
    if (Array.isArray(value) || ArrayBuffer.isView(value) && "length" in value) {
      const items = firstOf(value, show);
      const others = keys.filter((key) => !isIndex(key)).map(property);
      const head = Array.isArray(value) && name === "Array "
        ? "["
        : `${name.trim()}(${value.length}) [`;
      return join(head, [...items, ...others], "]", indent);
    }
    const properties = firstOf(keys, property);
    if (value instanceof Map) {
      const entries = firstOf(value, ([key, held]) => `${show(key)} => ${show(held)}`);
      return join(`Map(${value.size}) {`, [...entries, ...properties], "}", indent);
    }
    if (value instanceof Set) {
      return join(
        `Set(${value.size}) {`,
        [...firstOf(value, show), ...properties],
        "}",
        indent,
      );
    }
    if (value instanceof Date) return isNaN(value) ? "Invalid Date" : value.toISOString();
    if (value instanceof RegExp) return String(value);
    if (value instanceof Error) return showError(value).replaceAll("\n", `\n${indent}`);
    return join(`${name}{`, properties, "}", indent);
  };

  const showAny = (value, around, indent) => {
    switch (typeof value) {
      case "string":
        return showString(value);
      case "number":
        return showNumber(value);
      case "bigint":
        return `${value}n`;
      case "function":
        return showFunction(value);
      case "object":
        if (value === null) return "null";
        try {
          return showObject(value, around, indent);
        } catch (error) {
          return `[an object that can't be shown: ${error}]`;
        }
      default:
        return String(value);
    }
  };

  const show = (value) => showAny(value, [], "");
  const history = [];
  const printed = [];
  const print = (...values) => {
    printed.push(
      values.map((value) => typeof value === "string" ? value : show(value)).join(" "),
    );
  };
  const hidden = (name, value) => {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  };
  hidden("console", { log: print, info: print, warn: print, error: print, debug: print });
  hidden("_", undefined);
  hidden("repl", {
    history,
    show,
    remember: (source) => `${history.push(source)}`,
    /** What was printed since this was last asked. */
    takePrinted: () => printed.splice(0).join("\n"),
  });
})();
