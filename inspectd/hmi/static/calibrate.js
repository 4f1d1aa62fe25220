/* A calibration: the live picture, how far it is, what it has to say, and what can be done about it. */
(function (page) {
  "use strict";

  const EVERY_MS = 1000;
  const name = document.body.dataset.camera;
  const tile = new page.Tile(name, document.getElementById("tile"));
  const find = function (id) { return document.getElementById(id); };
  const bar = find("progress"), reports = find("reports"), whole = find("whole"), begin = find("begin");
  const button = function (what) { return document.querySelector('button[data-what="' + what + '"]'); };
  let asked = false, runName = "";

  page.connect("?camera=" + encodeURIComponent(name), function (update, cursor, atMs, done) {
    const one = update.cameras[0];
    if (!one) { done(); return; }
    tile.take(one, atMs);
    page.decode(one.pictures || [], cursor, function (pictures) {
      if (pictures.length) { tile.show(pictures[pictures.length - 1], 0); }
      done();
    });
  });
  page.every(function () { tile.age(); });

  function write(status) {
    const is_running = Boolean(status && status.is_running !== false);
    page.show(button("begin"), !is_running);
    page.show(button("stop"), is_running);
    page.show(button("resume"), Boolean(status && status.can_resume && !is_running));
    page.show(bar, is_running);
    if (!status) { return; }
    runName = status.run_name;
    page.show(whole, Boolean(status.run));
    const done = status.done || 0;
    page.text(find("stage"), is_running ? page.say(status.stage || "waiting") : status.trouble ? status.trouble : "");
    page.text(find("figures"), !is_running ? "" : done + (status.total ? " / " + status.total : "") +
      (status.loss !== undefined && status.loss !== null ? " · loss " + status.loss.toFixed(3) : ""));
    if (status.total) { bar.max = status.total; bar.value = done; } else { bar.removeAttribute("value"); }
    const lines = (status.reports || []).slice(-12).concat(status.summary || []);
    while (reports.children.length > lines.length) { reports.removeChild(reports.lastElementChild); }
    lines.forEach(function (line, i) {
      if (!reports.children[i]) { reports.appendChild(document.createElement("li")); }
      page.text(reports.children[i], line);
    });
  }

  function look() {
    if (asked) { return; }
    asked = true;
    const request = new XMLHttpRequest();
    request.open("GET", page.root + "/calibrate/" + name + "/status");
    request.timeout = 5000;
    request.onloadend = function () {
      asked = false;
      if (request.status === 200 && request.responseText) { write(JSON.parse(request.responseText).result); }
    };
    request.send();
  }
  setInterval(look, EVERY_MS);
  look();

  document.querySelector(".side").addEventListener("click", function (event) {
    const what = event.target.dataset.what;
    if (!what) { return; }
    event.preventDefault();
    const fields = {};
    if (find("by")) { fields.by = find("by").value; }
    if (find("why").value) { fields.why = find("why").value; }
    if (what === "begin" || what === "resume") { fields.parts = Number(begin.elements.parts.value); }
    if (what === "install") { fields.run_name = runName; fields.despite_marked = whole.querySelector('input[name="despite"]').checked; }
    page.ask("/calibrate/" + name + "/" + what, fields, function (result) {
      if (result) { page.tell(result.join(" "), "good"); }
      look();
    });
  });
})(window.inspectd);
