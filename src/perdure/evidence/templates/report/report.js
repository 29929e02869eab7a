"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const one = (selector) => document.querySelector(selector);

  // sections
  const setAll = (open) => all("details.section").forEach((section) => { section.open = open; });
  one("#open-all").addEventListener("click", () => setAll(true));
  one("#close-all").addEventListener("click", () => setAll(false));
  const openAnchor = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const section = target && target.closest("details.section");
    if (section) { section.open = true; target.scrollIntoView(); }
  };
  window.addEventListener("hashchange", openAnchor);
  all(".contents a, .section a[href^='#']").forEach((link) => link.addEventListener("click", () => {
    const section = document.getElementById(link.getAttribute("href").slice(1));
    if (section && "open" in section) section.open = true;
  }));
  openAnchor();
  let opened = [];
  window.addEventListener("beforeprint", () => { opened = all("details:not([open])"); opened.forEach((d) => { d.open = true; }); });
  window.addEventListener("afterprint", () => opened.forEach((d) => { d.open = false; }));

  // the table of cases
  const table = one("#cases-table");
  if (table) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const value = (row, column, kind) => {
      const cell = row.cells[column];
      return kind === "number" ? Number(cell.dataset.value) : cell.textContent.trim();
    };
    all("th button", table).forEach((button) => button.addEventListener("click", () => {
      const head = button.closest("th");
      const column = head.cellIndex;
      const down = head.getAttribute("aria-sort") === "ascending";
      all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const kind = button.dataset.kind;
      rows.sort((a, b) => {
        const x = value(a, column, kind), y = value(b, column, kind);
        const order = kind === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
        return down ? -order : order;
      });
      rows.forEach((row) => body.append(row));
    }));
    const domain = one("#filter-domain"), change = one("#filter-change"), text = one("#filter-text");
    const filter = () => {
      const words = text.value.trim().toLowerCase();
      let shown = 0;
      rows.forEach((row) => {
        const fits = (!domain.value || row.dataset.domain === domain.value) && (!change.value || row.dataset.kind === change.value)
          && (!words || row.textContent.toLowerCase().includes(words));
        row.hidden = !fits;
        shown += fits;
      });
      one("#count").textContent = `${shown} of ${rows.length} shown`;
    };
    [domain, change].forEach((control) => control.addEventListener("change", filter));
    text.addEventListener("input", filter);
    one("#filters").addEventListener("submit", (event) => event.preventDefault());
  }

  // the viewer
  const data = one("#volumes");
  if (!data || !window.niivue) return;
  const { cases, structures, colours, differences, difference_colours: differenceColours } = JSON.parse(data.textContent);
  const state = one("#viewer-state"), panel = one("#viewer");
  const colourMap = (hexes, labels) => {
    const part = (at) => hexes.map((hex) => parseInt(hex.slice(at, at + 2), 16));
    return { R: part(1), G: part(3), B: part(5), A: hexes.map((_, k) => (k ? 255 : 0)), I: hexes.map((_, k) => k), labels };
  };
  const maps = { structures: colourMap(colours, structures), differences: colourMap(differenceColours, differences) };
  let viewer = null, turn = Promise.resolve();
  const layer = () => one("input[name=layer]:checked").value;
  const load = async (name, given) => niivue.NVImage.loadFromBase64({ base64: given, name: `${name}.nii.gz`, colormap: "gray", opacity: 1 });
  const draw = async () => {
    state.textContent = "Drawing …";
    if (!viewer) {
      viewer = new niivue.Niivue({
        isRadiologicalConvention: true, sagittalNoseLeft: true, backColor: [0, 0, 0, 1], show3Dcrosshair: false, crosshairWidth: 1,
        crosshairColor: [1, 1, 1, 0.6], multiplanarShowRender: 0, isColorbar: false, dragAndDropEnabled: false, logLevel: "error",
        isNearestInterpolation: true, loadingText: "", sliceType: 3, multiplanarLayout: 3,
      });
      await viewer.attachToCanvas(one("#viewer-canvas"));
      viewer.onLocationChange = follow;
    }
    const number = one("#viewer-case").value, own = cases[number], wanted = layer();
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[0]);
    viewer.addVolume(await load("image", own.image));
    if (wanted !== "none") {
      const over = await load(wanted, own[wanted]);
      over.setColormapLabel(wanted === "difference" ? maps.differences : maps.structures);
      over.opacity = Number(one("#viewer-opacity").value);
      viewer.addVolume(over);
    }
    viewer.updateGLVolume();
    place();
    state.textContent = `Case ${number} with ${wanted === "none" ? "nothing" : wanted} over the image.`;
    panel.dataset.drawn = `${number} ${wanted}`;
  };
  // one after the other: two drawings at once would mix their volumes
  const again = () => { turn = turn.then(draw).catch((error) => { state.textContent = `The viewer cannot draw here: ${error.message}`; }); };
  const place = () => {
    all(".plane").forEach((slider) => { viewer.scene.crosshairPos[Number(slider.dataset.axis)] = Number(slider.value); });
    viewer.drawScene();
  };
  const follow = () => all(".plane").forEach((slider) => { slider.value = viewer.scene.crosshairPos[Number(slider.dataset.axis)]; });
  all(".plane").forEach((slider) => slider.addEventListener("input", () => { if (viewer) place(); }));
  one("#viewer-opacity").addEventListener("input", (event) => {
    if (viewer && viewer.volumes.length > 1) viewer.setOpacity(1, Number(event.target.value));
  });
  one("#viewer-case").addEventListener("change", again);
  all("input[name=layer]").forEach((input) => input.addEventListener("change", again));
  all("button.view").forEach((button) => button.addEventListener("click", () => {
    panel.hidden = false;
    one("#viewer-case").value = button.dataset.case;
    again();
    panel.scrollIntoView();
    one("#viewer-case").focus({ preventScroll: true });
  }));
})();
