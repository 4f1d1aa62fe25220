/* A picture with its anomaly map and its regions, on one canvas. */
(function (page) {
  "use strict";

  const grid = document.createElement("canvas"); /* one for all: a map is a few thousand pixels */

  /* Colours that people who see no red, or no green, tell apart: below the level a yellow veil that thickens,
     above it vermilion. */
  function paintMap(mask, bytes, strength) {
    grid.width = mask.w;
    grid.height = mask.h;
    const context = grid.getContext("2d");
    const image = context.createImageData(mask.w, mask.h);
    const out = image.data;
    for (let i = 0, o = 0; i < bytes.length; i += 1, o += 4) {
      const byte = bytes[i];
      if (byte > mask.level) {
        out[o] = 213; out[o + 1] = 40; out[o + 2] = 0;
        out[o + 3] = strength * Math.min(255, 140 + (byte - mask.level));
      } else {
        out[o] = 240; out[o + 1] = 205; out[o + 2] = 40;
        out[o + 3] = strength * Math.max(0, byte - mask.level / 3) * 0.9;
      }
    }
    context.putImageData(image, 0, 0);
  }

  function paintRegions(context, regions, scaleX, scaleY) {
    const line = Math.max(2, context.canvas.width / 220);
    regions.forEach(function (one) {
      const box = [one.x * scaleX, one.y * scaleY, Math.max(4, one.w * scaleX), Math.max(4, one.h * scaleY)];
      context.lineWidth = 3 * line;
      context.strokeStyle = "#000";
      context.strokeRect(box[0], box[1], box[2], box[3]);
      context.lineWidth = line;
      context.strokeStyle = "#fff";
      context.strokeRect(box[0], box[1], box[2], box[3]);
    });
  }

  /* `shown`: {header, image, masks: [{mask, bytes}]} */
  page.draw = function (canvas, shown, strength) {
    const image = shown.image;
    if (canvas.width !== image.naturalWidth || canvas.height !== image.naturalHeight) {
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
    }
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const whole = shown.header.image;
    if (!whole) { return; }
    const scaleX = canvas.width / whole.w, scaleY = canvas.height / whole.h;
    if (strength > 0) {
      shown.masks.forEach(function (one) {
        paintMap(one.mask, one.bytes, strength);
        const area = one.mask.area;
        context.drawImage(grid, area[0] * scaleX, area[1] * scaleY, area[2] * scaleX, area[3] * scaleY);
      });
    }
    paintRegions(context, shown.header.regions || [], scaleX, scaleY);
  };

  /* Decode an update's pictures of one camera, in their order; `done(list)` gets those that could be decoded. */
  page.decode = function (pictures, cursor, done) {
    const waiting = pictures.length, found = [];
    let left = waiting;
    if (!waiting) { done(found); return; }
    pictures.forEach(function (one, i) {
      const jpeg = new Uint8Array(cursor.data, cursor.offset, one.bytes);
      cursor.offset += one.bytes;
      const masks = (one.masks || []).map(function (mask) {
        const bytes = new Uint8Array(cursor.data, cursor.offset, mask.w * mask.h);
        cursor.offset += bytes.length;
        return { mask: mask, bytes: new Uint8Array(bytes) }; /* a copy: the message can go */
      });
      const address = URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" }));
      const image = new Image();
      const end = function (is_good) {
        URL.revokeObjectURL(address);
        if (is_good) { found[i] = { header: one.header, image: image, masks: masks }; }
        left -= 1;
        if (!left) { done(found.filter(Boolean)); }
      };
      image.onload = function () { end(true); };
      image.onerror = function () { end(false); };
      image.src = address;
    });
  };
})(window.inspectd);
