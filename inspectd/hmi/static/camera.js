/* One camera, large: its picture, the strip of the last parts, the chart, and what its second model says. */
(function (page) {
  "use strict";

  const THUMBS = 12;
  const name = document.body.dataset.camera;
  const tile = new page.Tile(name, document.getElementById("tile"), document.querySelector(".side"));
  const slider = document.getElementById("strength");
  const strip = document.getElementById("strip");
  const template = document.getElementById("thumb");
  const alarms = document.getElementById("alarms");
  const shadow = document.getElementById("shadow");
  const chart = page.chart(document.getElementById("chart"));
  page.tile = tile;

  function strength() { return slider.value / 100; }

  /* A picture comes again after a lost connection, and when its map came after it. */
  function addThumb(shown) {
    const key = shown.header.epoch + " " + shown.header.seq;
    if (Array.prototype.some.call(strip.children, function (one) { return one.getAttribute("data-part") === key; })) { return; }
    let item = strip.lastElementChild;
    if (strip.children.length < THUMBS) {
      item = document.importNode(template.content, true).querySelector("li");
    } else {
      strip.removeChild(item); /* used again: the page keeps as many nodes as it had */
    }
    item.setAttribute("data-part", key);
    item.setAttribute("data-verdict", shown.header.verdict);
    item.title = shown.header.seq + " · " + page.say(shown.header.verdict);
    page.text(item.querySelector(".at"), shown.header.at ? page.local(shown.header.at) : "");
    strip.insertBefore(item, strip.firstElementChild);
    page.draw(item.querySelector("canvas"), { header: shown.header, image: small(shown.image), masks: [] }, 0);
  }

  /* A drawing in a thumbnail's size that `draw` takes for an image. */
  function small(image) {
    const canvas = document.createElement("canvas");
    canvas.width = 160;
    canvas.height = Math.max(1, Math.round(160 * image.naturalHeight / image.naturalWidth));
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.naturalWidth = canvas.width;
    canvas.naturalHeight = canvas.height;
    return canvas;
  }

  function writeState() {
    const state = tile.state;
    if (!state) { return; }
    const has_areas = Boolean(tile.verdict && tile.verdict.areas && tile.verdict.areas.length);
    ["threshold", "model"].forEach(function (what) { /* which area's would be meant? */
      page.show(document.querySelector('form[data-do="' + what + '"]'), !has_areas);
    });
    const lines = (state.alarms || []).slice(1).map(page.alarmed);
    while (alarms.children.length > lines.length) { alarms.removeChild(alarms.lastElementChild); }
    lines.forEach(function (line, i) {
      if (!alarms.children[i]) { alarms.appendChild(document.createElement("li")); }
      page.text(alarms.children[i], line);
    });
    const second = state.shadow;
    page.text(shadow, !second ? "" : page.say("Second model") + " " + (second.model || second.detail) + ": " +
      second.compared + " " + page.say("compared") + ", " + second.agreed + " " + page.say("agreed"));
  }

  page.connect("?camera=" + encodeURIComponent(name), function (update, cursor, atMs, done) {
    const one = update.cameras[0];
    if (update.shift) { page.writeShift(update.shift); tile.count(update.shift.cameras[name]); }
    if (!one) { done(); return; }
    chart.add(one.epoch, tile.take(one, atMs));
    writeState();
    page.decode(one.pictures || [], cursor, function (pictures) {
      pictures.forEach(addThumb);
      if (pictures.length) {
        tile.show(pictures[pictures.length - 1], strength());
        page.text(document.getElementById("no-map"), tile.shown.masks.length ? "" : page.say("no map"));
      }
      done();
    });
  });

  page.every(function () { tile.age(); });
  slider.addEventListener("input", function () { tile.redraw(strength()); });
})(window.inspectd);
