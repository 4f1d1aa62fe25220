/* One part of the gallery: its picture with map and regions, as on the wall. */
(function (page) {
  "use strict";

  const canvas = document.getElementById("picture");
  if (!canvas) { return; }
  const header = JSON.parse(document.getElementById("header").textContent);
  const slider = document.getElementById("strength");
  const image = new Image();
  const masks = [];
  const bytes = atob(canvas.dataset.map);
  let offset = 0;
  /* Of several areas only the worst one's map is kept: it stands first. */
  const worst = header.areas && header.areas.length ? header.areas[0].mask : header.mask;
  [worst].forEach(function (mask) {
    if (!mask || bytes.length !== mask.w * mask.h) { return; }
    const own = new Uint8Array(mask.w * mask.h);
    for (let i = 0; i < own.length; i += 1) { own[i] = bytes.charCodeAt(offset + i); }
    offset += own.length;
    masks.push({ mask: mask, bytes: own });
  });

  function draw() {
    page.draw(canvas, { header: header, image: image, masks: masks }, slider.value / 100);
  }
  image.onload = function () {
    draw();
    slider.addEventListener("input", draw);
  };
  image.onerror = function () { page.show(document.getElementById("gone"), true); };
  if (!masks.length) { page.text(document.getElementById("no-map"), page.say("no map")); }
  image.src = canvas.dataset.picture;
})(window.inspectd);
