"use strict";
// Draws the figures that the page holds as data: telemetry/reports/figures.py says what each field means.
(() => {
  const figures = new Map(JSON.parse(document.getElementById("figures").textContent).map((each) => [each.key, each]));
  const drawn = new Map(); // element → its chart
  const LEFT = 78, ROWS_LEFT = 340, RIGHT = 28, TOP = 44, BETWEEN = 26, BOTTOM = 52, SLIDER = 44;
  const NARROW = 600; // below this width rows are named above their marks, and a figure's legend has a line of its own
  const ABOVE = 44, STAMP = 24;

  const onTime = (figure) => known(figure.end_s);
  const named = (figure, panel) => panel.rows.length > 0 && !onTime(figure); // its rows are things with names, not lanes
  const height = (figure, panel, narrow) => panel.height + (narrow && named(figure, panel) ? ABOVE * panel.rows.length : 0);
  const top = (narrow) => TOP + (narrow ? ABOVE : 0);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const known = (value) => value !== null && value !== undefined;
  const label = (axis) => (axis.unit ? `${axis.name}, ${axis.unit}` : axis.name);

  function number(value) {
    if (!known(value)) return "–";
    const rounded = Number(value.toPrecision(4));
    return Math.abs(rounded) >= 1e12 || (rounded && Math.abs(rounded) < 1e-4) ? rounded.toExponential() : String(rounded);
  }
  const interval = (value, lo, hi, unit) =>
    number(value) + (known(lo) && known(hi) ? ` [${number(lo)}..${number(hi)}]` : "") + (unit ? ` ${unit}` : "");
  const at = (values, k) => (values ? values[k] : null);

  // A name has one colour in all panels, and what is the same thing in all figures has it in all of them.
  const FIXED = new Map(Object.entries({
    prefill: "--prefill", decode: "--decode", waiting: "--shade", idle: "--c0", unattributed: "--c7", "other runs": "--c3", "not told apart": "--c4",
    "idle baseline": "--ink", "sensor readings": "--shade", "single runs": "--shade", "Pareto front": "--soft",
  }));
  function palette(figure) {
    const names = [...new Set(figure.panels.flatMap((panel) => panel.marks.map((mark) => mark.name)))];
    const free = names.filter((name) => !FIXED.has(name));
    return new Map(names.map((name) => [name, colour(FIXED.get(name) || `--c${free.indexOf(name) % 8}`)]));
  }

  // What the pointer, or the keyboard, is told of one point, bar or span.
  function told(figure, panel, mark, k) {
    if (mark.kind === "points") {
      const lines = [at(mark.labels, k) || mark.name];
      lines.push(`${figure.x.name}: ${interval(mark.x[k], at(mark.x_lo, k), at(mark.x_hi, k), figure.x.unit)}`);
      if (!panel.rows.length) lines.push(`${panel.y.name}: ${interval(mark.y[k], at(mark.y_lo, k), at(mark.y_hi, k), panel.y.unit)}`);
      return lines.join("\n");
    }
    if (mark.kind === "bars") {
      const whole = panel.marks.filter((each) => each.kind === "bars").reduce((sum, each) => sum + (each.x[k] || 0), 0);
      return `${panel.rows[k]}\n${mark.name}: ${number(mark.x[k])} ${figure.x.unit}, ${number(known(mark.x[k]) ? (100 * mark.x[k]) / whole : null)} % of ${number(whole)} ${figure.x.unit}`;
    }
    return `${mark.name}: ${number(mark.x0[k])} to ${number(mark.x1[k])} ${figure.x.unit}, ${number(mark.x1[k] - mark.x0[k])} ${figure.x.unit}`;
  }

  // What every line and lane says at one time.
  function toldAt(figure, x) {
    const lines = [`${number(x)} ${figure.x.unit}`];
    for (const panel of figure.panels) {
      const busy = new Map();
      for (const mark of panel.marks) {
        if (mark.kind === "line") {
          const k = before(mark.x, x);
          if (k < 0 || !known(mark.y[k])) continue;
          lines.push(`${mark.name}, ${panel.y.name}: ${interval(mark.y[k], at(mark.lo, k), at(mark.hi, k), panel.y.unit)}`);
        } else if (mark.kind === "spans") {
          const n = mark.x0.reduce((sum, x0, k) => sum + (x0 <= x && x < mark.x1[k]), 0);
          if (n) busy.set(mark.name, n);
        }
      }
      if (busy.size) lines.push(`${panel.y.name}: ${[...busy].map(([name, n]) => `${n} in ${name}`).join(", ")}`);
    }
    for (const shade of figure.shades) if (shade.x.some(([a, b]) => a <= x && x < b)) lines.push(shade.name);
    return lines.join("\n");
  }
  function before(sorted, x) {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= x) low = middle + 1; else high = middle;
    }
    return low - 1;
  }

  function tip(text) {
    const element = document.createElement("div");
    element.className = "tip";
    element.textContent = text; // never as HTML: names come from users
    return element;
  }

  // One mark as series of ECharts.
  function series(figure, panel, mark, index, colours, room) {
    const place = { name: mark.name, xAxisIndex: index, yAxisIndex: index, itemStyle: { color: colours.get(mark.name) }, animation: false };
    if (mark.kind === "line") {
      const line = {
        ...place, type: "line", data: mark.x.map((x, k) => [x, mark.y[k]]), showSymbol: false, z: mark.faint ? 2 : 3,
        lineStyle: { color: colours.get(mark.name), width: mark.faint ? 1 : 2, type: mark.dashed ? "dashed" : "solid" },
        emphasis: { disabled: true },
      };
      return mark.lo ? [band(place, mark), line] : [line];
    }
    if (mark.kind === "bars") return [{ ...place, type: "bar", stack: "all", barMaxWidth: 22, data: mark.x }];
    if (mark.kind === "spans") return [spans(place, mark)];
    const labelled = !panel.rows.length && !mark.faint && mark.x.length <= 12;
    const scatter = {
      ...place, type: "scatter", symbolSize: mark.faint ? 6 : 11, z: mark.faint ? 2 : 4,
      itemStyle: { ...place.itemStyle, opacity: mark.faint ? 0.7 : 1 },
      data: mark.x.map((x, k) => ({ value: [x, mark.y[k]], label: { position: inward(figure, mark.x, x) } })),
      label: { show: labelled, distance: 10, width: room, overflow: "break", lineHeight: 14, color: colour("--ink"), formatter: ({ dataIndex }) => mark.labels[dataIndex] || "" },
      labelLayout: { hideOverlap: true, dy: -11 }, // above the whiskers
    };
    return mark.x_lo || mark.y_lo ? [whiskers(place, mark), scatter] : [scatter];
  }

  // On which side of a point its name has room.
  function inward(figure, values, x) {
    const scaled = (value) => (figure.x.log ? Math.log(value) : value);
    return 2 * scaled(x) > scaled(Math.min(...values)) + scaled(Math.max(...values)) ? "left" : "right";
  }

  function band(place, mark) {
    const pieces = [];
    let piece = [];
    mark.x.forEach((x, k) => {
      if (known(mark.lo[k]) && known(mark.hi[k])) piece.push(k);
      else if (piece.length) { pieces.push(piece); piece = []; }
    });
    if (piece.length) pieces.push(piece);
    const data = mark.x.flatMap((x, k) => [[x, mark.lo[k]], [x, mark.hi[k]]]);
    return {
      ...place, type: "custom", silent: true, clip: true, z: 1, data,
      renderItem: (params, api) => params.dataIndex ? null : {
        type: "group",
        children: pieces.map((each) => ({
          type: "polygon", style: { fill: place.itemStyle.color, opacity: 0.22 },
          shape: { points: [...each.map((k) => api.coord([mark.x[k], mark.hi[k]])), ...each.slice().reverse().map((k) => api.coord([mark.x[k], mark.lo[k]]))] },
        })),
      },
    };
  }

  function whiskers(place, mark) {
    const line = (a, b, dx, dy) => [[a, b], [[a[0] - dx, a[1] - dy], [a[0] + dx, a[1] + dy]], [[b[0] - dx, b[1] - dy], [b[0] + dx, b[1] + dy]]];
    return {
      ...place, type: "custom", silent: true, clip: true, z: 3,
      data: mark.x.flatMap((x, k) => [[x, mark.y[k]], [at(mark.x_lo, k), at(mark.y_lo, k)], [at(mark.x_hi, k), at(mark.y_hi, k)]].map(([a, b]) => [known(a) ? a : x, known(b) ? b : mark.y[k]])),
      renderItem: (params, api) => {
        if (params.dataIndex % 3) return null; // three data to a point, so that the axes hold its intervals
        const k = params.dataIndex / 3, lines = [];
        if (known(at(mark.x_lo, k)) && known(at(mark.x_hi, k))) lines.push(...line(api.coord([mark.x_lo[k], mark.y[k]]), api.coord([mark.x_hi[k], mark.y[k]]), 0, 5));
        if (known(at(mark.y_lo, k)) && known(at(mark.y_hi, k))) lines.push(...line(api.coord([mark.x[k], mark.y_lo[k]]), api.coord([mark.x[k], mark.y_hi[k]]), 5, 0));
        return { type: "group", children: lines.map((points) => ({ type: "polyline", shape: { points }, style: { stroke: place.itemStyle.color, lineWidth: 2, fill: "none" } })) };
      },
    };
  }

  function spans(place, mark) {
    return {
      ...place, type: "custom", clip: true, data: mark.x0.map((x0, k) => [x0, mark.x1[k], mark.row[k]]), encode: { x: [0, 1], y: 2 },
      renderItem: (params, api) => {
        const [left, middle] = api.coord([api.value(0), api.value(2)]), [right] = api.coord([api.value(1), api.value(2)]);
        const height = Math.max(2, api.size([0, 1])[1] * 0.7), { x, y, width, height: whole } = params.coordSys;
        const shape = echarts.graphic.clipRectByRect({ x: left, y: middle - height / 2, width: Math.max(1, right - left), height }, { x, y, width, height: whole });
        return shape && { type: "rect", shape, style: { fill: place.itemStyle.color } };
      },
    };
  }

  function option(figure, width) {
    const colours = palette(figure), ink = colour("--ink"), soft = colour("--soft"), grid = colour("--grid"), n = figure.panels.length;
    const narrow = width < NARROW;
    const left = figure.panels.some((panel) => named(figure, panel)) ? (narrow ? RIGHT : ROWS_LEFT) : LEFT;
    const room = width - left - RIGHT;
    const text = { color: soft, fontSize: 12 }, line = { lineStyle: { color: colour("--rule") } };
    const found = { grids: [], xs: [], ys: [], all: [] };
    let below = top(narrow);
    figure.panels.forEach((panel, k) => {
      const last = k === n - 1, above = narrow && named(figure, panel);
      found.grids.push({ left, right: RIGHT, top: below, height: height(figure, panel, narrow) });
      below += height(figure, panel, narrow) + BETWEEN;
      found.xs.push({
        gridIndex: k, type: figure.x.log ? "log" : "value", scale: !figure.x.zero, min: onTime(figure) ? 0 : null, max: figure.end_s,
        name: last ? label(figure.x) : "", nameLocation: "middle", nameGap: 30, nameTextStyle: { color: ink, fontSize: 13 },
        axisLabel: { ...text, show: last, hideOverlap: true, formatter: number }, axisLine: { ...line, show: true }, axisTick: { show: last }, splitLine: { lineStyle: { color: grid } },
        axisPointer: { show: onTime(figure), label: { show: last, formatter: ({ value }) => `${number(value)} ${figure.x.unit}` } },
      });
      found.ys.push({
        gridIndex: k, type: panel.rows.length ? "category" : panel.y.log ? "log" : "value", scale: !panel.y.zero, inverse: panel.rows.length > 0,
        data: panel.rows.length ? panel.rows : null, splitNumber: panel.height < 150 ? 3 : 5,
        name: above ? "" : label(panel.y), nameLocation: "middle", nameGap: left - 22, nameTextStyle: { color: ink, fontSize: 13 },
        axisLabel: panel.rows.length ? { ...text, show: !onTime(figure) || panel.rows.length < 12, color: ink, width: left - 54, lineHeight: 15, overflow: "break", interval: 0, ...(above ? { inside: true, margin: 0, width: room, verticalAlign: "bottom", padding: [0, 0, 13, 4] } : {}) } : { ...text, formatter: number },
        axisLine: line, axisTick: { show: false }, splitLine: { show: !panel.rows.length, lineStyle: { color: grid } },
      });
      for (const mark of panel.marks) found.all.push(...series(figure, panel, mark, k, colours, room / 2));
    });
    figure.shades.forEach((shade) => figure.panels.forEach((panel, index) => {
      if (panel.rows.length) return;
      const fill = colour(shade.loud ? "--loud" : "--shade");
      found.all.push({
        name: shade.name, type: "line", xAxisIndex: index, yAxisIndex: index, data: [], itemStyle: { color: fill }, lineStyle: { color: fill },
        markArea: { silent: true, itemStyle: { color: fill, opacity: 0.18 }, data: shade.x.map(([a, b]) => [{ xAxis: a }, { xAxis: b }]) },
      });
    }));
    const zooms = [{ type: "inside", xAxisIndex: found.xs.map((_, k) => k), filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, preventDefaultMouseMove: false }];
    if (onTime(figure)) zooms.push({ type: "slider", xAxisIndex: found.xs.map((_, k) => k), filterMode: "none", height: 18, bottom: 8, left, right: RIGHT, showDetail: false, borderColor: colour("--rule"), textStyle: text });
    return {
      backgroundColor: "transparent", textStyle: { fontFamily: "system-ui, 'DejaVu Sans', sans-serif", color: ink }, animation: false,
      grid: found.grids, xAxis: found.xs, yAxis: found.ys, series: found.all, dataZoom: zooms,
      legend: { type: "scroll", top: narrow ? 4 + STAMP : 4, left, right: RIGHT + (narrow ? 0 : 120), textStyle: { color: ink }, data: [...new Set(found.all.map((each) => each.name))].map((name) => ({ name, icon: "roundRect" })), pageTextStyle: text, pageIconColor: ink },
      axisPointer: { link: [{ xAxisIndex: "all" }] },
      tooltip: {
        trigger: onTime(figure) ? "axis" : "item", confine: true, backgroundColor: colour("--card"), borderColor: colour("--rule"), textStyle: { color: ink },
        formatter: (params) => tip(onTime(figure) ? toldAt(figure, params[0].axisValue) : toldOf(figure, params)),
      },
      graphic: figure.simulated ? [{ type: "text", right: RIGHT, top: 6, silent: true, style: { text: "SIMULATED", fill: colour("--loud"), font: "bold 16px system-ui, sans-serif" } }] : [],
    };
  }
  function toldOf(figure, { seriesName, dataIndex, seriesType }) {
    const kind = { scatter: "points", bar: "bars", line: "line", custom: "spans" }[seriesType];
    for (const panel of figure.panels) for (const mark of panel.marks) {
      if (mark.name === seriesName && mark.kind === kind && kind !== "line") return told(figure, panel, mark, dataIndex);
    }
    return seriesName;
  }

  function draw(details) {
    const figure = figures.get(details.id), element = details.querySelector(".chart");
    const width = element.clientWidth, narrow = width < NARROW;
    const heights = figure.panels.reduce((sum, panel) => sum + height(figure, panel, narrow) + BETWEEN, 0);
    element.style.height = `${top(narrow) + heights - BETWEEN + BOTTOM + (onTime(figure) ? SLIDER : 0)}px`;
    let chart = drawn.get(element);
    if (!chart) {
      chart = echarts.init(element, null, { renderer: "svg" });
      drawn.set(element, chart);
      control(details, figure, element, chart);
    }
    const zoom = chart.getOption()?.dataZoom?.[0];
    chart.resize();
    chart.setOption(option(figure, width), true);
    if (zoom) chart.dispatchAction({ type: "dataZoom", dataZoomIndex: 0, start: zoom.start, end: zoom.end });
  }

  function control(details, figure, element, chart) {
    let place = -1;
    const value = details.querySelector(".value");
    function zoom(what) {
      const { start, end } = chart.getOption().dataZoom[0];
      const width = end - start, middle = (start + end) / 2;
      const half = { in: width / 4, out: Math.min(50, width), left: width / 2, right: width / 2, all: 50 }[what];
      const shift = { left: -width / 4, right: width / 4 }[what] || 0;
      const from = Math.max(0, Math.min(100 - 2 * half, (what === "all" ? 50 : middle) + shift - half));
      chart.dispatchAction({ type: "dataZoom", dataZoomIndex: 0, start: from, end: from + 2 * half });
    }
    function step(by) {
      if (onTime(figure)) {
        const axis = chart.getModel().getComponent("xAxis", 0).axis.scale.getExtent();
        const steps = 50;
        place = Math.max(0, Math.min(steps, (place < 0 ? (by > 0 ? -1 : 1) : place) + by));
        const x = axis[0] + ((axis[1] - axis[0]) * place) / steps;
        const [pixel] = chart.convertToPixel({ gridIndex: 0 }, [x, 0]);
        chart.dispatchAction({ type: "showTip", x: pixel, y: top(element.clientWidth < NARROW) + figure.panels[0].height / 2 });
        value.textContent = toldAt(figure, x).replaceAll("\n", "; ");
        return;
      }
      const every = figure.panels.flatMap((panel) => panel.marks.filter((mark) => mark.kind !== "line").flatMap((mark) => mark.x.map((_, k) => [panel, mark, k])));
      if (!every.length) return;
      place = (place + by + every.length) % every.length;
      const [panel, mark, k] = every[place];
      const seriesIndex = chart.getOption().series.findIndex((each) => each.name === mark.name && each.type === (mark.kind === "bars" ? "bar" : "scatter"));
      chart.dispatchAction({ type: "showTip", seriesIndex, dataIndex: k });
      value.textContent = told(figure, panel, mark, k).replaceAll("\n", "; ");
    }
    const keys = { "+": ["in"], "=": ["in"], "-": ["out"], "−": ["out"], ArrowLeft: ["left"], ArrowRight: ["right"], 0: ["all"] };
    element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (keys[event.key]) zoom(...keys[event.key]);
      else if (event.key === "." || event.key === ",") step(event.key === "." ? 1 : -1);
      else if (event.key === "Escape") {
        chart.dispatchAction({ type: "hideTip" });
        chart.dispatchAction({ type: "updateAxisPointer", currTrigger: "leave" });
        value.textContent = "";
      } else return;
      event.preventDefault();
    });
    details.querySelector(".tools").addEventListener("click", ({ target }) => target.dataset.do && zoom(target.dataset.do));
    let width = element.clientWidth;
    new ResizeObserver(() => {
      if (!element.clientWidth || element.clientWidth === width) return;
      width = element.clientWidth;
      draw(details);
    }).observe(element);
  }

  // The numbers of a figure, made when asked for: as HTML they would outweigh the rest of the page.
  function numbers(figure) {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow(), body = table.createTBody();
    for (const name of ["what", label(figure.x), "from", "to", "value", "from", "to"]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    const add = (...cells) => { const row = body.insertRow(); for (const cell of cells) row.insertCell().textContent = typeof cell === "string" ? cell : number(cell); };
    for (const panel of figure.panels) for (const mark of panel.marks) {
      const of = (k) => (panel.rows.length && mark.kind !== "spans" ? `${panel.rows[mark.kind === "bars" ? k : mark.y[k]]}: ${mark.name}` : `${at(mark.labels, k) || mark.name}, ${label(panel.y)}`);
      if (mark.kind === "spans") mark.x0.forEach((x0, k) => add(of(k), null, x0, mark.x1[k], null, null, null));
      else mark.x.forEach((x, k) => add(of(k), x, at(mark.x_lo, k), at(mark.x_hi, k), mark.kind === "bars" || panel.rows.length ? null : mark.y[k], at(mark.y_lo, k) ?? at(mark.lo, k), at(mark.y_hi, k) ?? at(mark.hi, k)));
    }
    return table;
  }

  const every = [...document.querySelectorAll("details.figure")];
  const redraw = () => every.filter((details) => details.open).forEach(draw);
  for (const details of every) {
    details.addEventListener("toggle", () => details.open && draw(details));
    const data = details.querySelector("details.data");
    data.addEventListener("toggle", () => {
      const place = data.querySelector(".wide");
      if (data.open && !place.firstChild) place.append(numbers(figures.get(details.id)));
    });
  }
  redraw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => { document.documentElement.classList.toggle("print", on); redraw(); });
  }
})();
