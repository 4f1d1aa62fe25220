/* The wall: a tile for each camera. */
(function (page) {
  "use strict";

  const wall = document.getElementById("wall");
  const template = document.getElementById("tile");
  const none = document.getElementById("none");
  const slider = document.getElementById("strength");
  const tiles = {};
  let shift = { cameras: {} };

  function strength() { return slider.value / 100; }

  function tileOf(name) {
    if (!tiles[name]) {
      const element = document.importNode(template.content, true).querySelector(".tile");
      const link = element.querySelector(".name");
      link.textContent = name;
      link.href = page.root + "/camera/" + encodeURIComponent(name);
      element.setAttribute("data-camera", name);
      const after = Object.keys(tiles).filter(function (other) { return other > name; }).sort()[0];
      wall.insertBefore(element, after ? tiles[after].element : null);
      tiles[name] = new page.Tile(name, element);
      arrange();
    }
    return tiles[name];
  }

  function arrange() {
    const n = Object.keys(tiles).length;
    page.show(none, n === 0);
    wall.setAttribute("data-columns", n <= 1 ? 1 : n <= 4 ? 2 : n <= 9 ? 3 : 4);
  }

  page.connect("", function (update, cursor, atMs, done) {
    let left = update.cameras.length;
    if (update.names) { leaveOnly(update.names); }
    if (update.shift) { shift = update.shift; page.writeShift(shift); }
    update.cameras.forEach(function (one) {
      const tile = tileOf(one.name);
      tile.take(one, atMs);
      page.decode(one.pictures || [], cursor, function (pictures) {
        if (pictures.length) { tile.show(pictures[pictures.length - 1], strength()); }
        left -= 1;
        if (!left) { finish(); }
      });
    });
    if (!update.cameras.length) { finish(); }

    function finish() {
      if (update.shift) { Object.keys(tiles).forEach(function (name) { tiles[name].count(shift.cameras[name]); }); }
      done();
    }
  });

  /* Take down cameras that are no longer the daemon's. */
  function leaveOnly(names) {
    Object.keys(tiles).filter(function (name) { return names.indexOf(name) < 0; }).forEach(function (name) {
      wall.removeChild(tiles[name].element);
      delete tiles[name];
    });
    arrange();
  }

  page.every(function () { Object.keys(tiles).forEach(function (name) { tiles[name].age(); }); });
  slider.addEventListener("input", function () {
    Object.keys(tiles).forEach(function (name) { tiles[name].redraw(strength()); });
  });
})(window.inspectd);
