/* One camera on a page, on the wall or large: what is known of it, and since when. */
(function (page) {
  "use strict";

  const MARKS = 60;
  const OTHER_MS = 1000; /* pictures are fewer than verdicts: on a running line the last one is a moment older */
  const say = page.say;

  page.Tile = function (name, element, elsewhere) {
    const find = function (selector) {
      return element.querySelector(selector) || (elsewhere && elsewhere.querySelector(selector));
    };
    this.name = name;
    this.elements = [element].concat(elsewhere || []);
    this.element = element;
    this.parts = {};
    ["state", "age", "verdict", "word", "reason", "figures", "advice", "counts", "label"].forEach(function (part) {
      this.parts[part] = find("." + part);
    }, this);
    this.view = find(".view");
    this.canvas = find("canvas.picture");
    this.none = find(".no-picture");
    this.marks = find("canvas.marks");
    this.heardMs = -Infinity;
    this.begin("");
  };

  /* Of another epoch nothing holds: parts in between were not inspected. */
  page.Tile.prototype.begin = function (epoch) {
    this.epoch = epoch;
    this.state = null;
    this.verdict = null;
    this.verdictMs = -Infinity;
    this.shown = null;
    this.seq = 0;
    this.missed = 0;
    this.recent = [];
    if (this.marks) { this.mark(); }
    if (this.canvas && this.canvas.width !== 16) { this.canvas.width = 16; this.canvas.height = 9; }
    page.show(this.none, true);
    page.text(this.parts.label, "");
  };

  /* Note an update; return what is new of its scores: after a connection was lost everything comes again. */
  page.Tile.prototype.take = function (update, atMs) {
    if (update.epoch !== this.epoch) { this.begin(update.epoch); }
    if (update.state) { this.state = update.state; }
    if (update.verdict) { this.verdict = update.verdict; this.verdictMs = atMs - update.age_ms; }
    this.missed = update.missed || 0;
    const seq = this.seq;
    const scores = (update.scores || []).filter(function (one) { return one[0] > seq; });
    scores.forEach(function (one) { this.recent.push(one[4]); this.seq = one[0]; }, this);
    this.recent.splice(0, this.recent.length - MARKS);
    this.write();
    if (scores.length) { this.mark(); }
    this.heardMs = Math.max(this.heardMs, atMs - update.age_ms); /* last: what could not be written is not new */
    return scores;
  };

  /* Show a picture under its own verdict. */
  page.Tile.prototype.show = function (shown, strength) {
    if (shown.header.epoch !== this.epoch) { return; }
    const header = shown.header;
    this.shown = shown;
    page.show(this.none, false);
    page.draw(this.canvas, shown, strength);
    page.text(this.parts.label, (header.at ? page.local(header.at) + " · " : "") + (header.part || header.seq) + " · " +
      say(header.verdict));
  };

  page.Tile.prototype.redraw = function (strength) {
    if (this.shown) { page.draw(this.canvas, this.shown, strength); }
  };

  /* A verdict is shown only while its camera inspects, and while no newer one is known of that did not arrive. */
  page.Tile.prototype.write = function () {
    const state = this.state, is_inspecting = Boolean(state && state.inspecting);
    const is_newest = this.verdict && !(state && state.last_seq > this.verdict.seq);
    const verdict = is_newest ? this.verdict : null;
    const kind = !state ? "none" : !is_inspecting ? "fault" : verdict ? verdict.verdict : "none";
    const reason = verdict && verdict.verdict === "fault" ? verdict.reason : null;
    page.text(this.parts.word, !state ? say("waiting") : !is_inspecting ? say("not inspecting") : verdict ? say(verdict.verdict) : "–");
    page.text(this.parts.reason, !state ? "" : !is_inspecting ? say(state.state) : reason ? say(reason) : "");
    this.element.setAttribute("data-verdict", kind);
    if (this.parts.verdict) { this.parts.verdict.setAttribute("data-verdict", kind); }
    page.text(this.parts.state, state ? say(state.state) + (state.recipe ? " · " + state.recipe : "") : "");
    page.text(this.parts.figures, this.figures(is_inspecting ? verdict : null));
    page.text(this.parts.advice, this.advice());
  };

  page.Tile.prototype.figures = function (verdict) {
    const state = this.state, found = [];
    if (verdict) {
      found.push((verdict.at ? page.local(verdict.at) + " " : "") + (verdict.part || verdict.seq));
      found.push(say("score") + " " + page.number(verdict.score) + " / " + page.number(verdict.threshold));
    }
    if (state && state.fps !== null) { found.push(page.number(state.fps, 3) + " " + say("pictures/s")); }
    if (state && state.p99_ms !== null) { found.push("p99 " + page.number(state.p99_ms, 3) + " ms"); }
    if (this.missed) { found.push(this.missed + " " + say("missed here")); }
    return found.join(" · ");
  };

  page.Tile.prototype.advice = function () {
    const state = this.state;
    if (!state) { return ""; }
    const alarm = (state.alarms || [])[0];
    if (alarm) { return page.alarmed(alarm); }
    return state.detail || (this.verdict && this.verdict.verdict === "fault" && this.verdict.detail) || state.caveat || "";
  };

  /* Since when is counted, and who began it, if it was somebody. */
  page.writeShift = function (shift) {
    page.text(document.getElementById("shift"), say("since") + " " + shift.since.slice(11, 16) +
      (shift.by ? " (" + shift.by + ": " + shift.why + ")" : ""));
  };

  page.Tile.prototype.count = function (count) {
    if (!count) { page.text(this.parts.counts, ""); return; }
    const all = count.ok + count.ng + count.fault;
    const reasons = Object.keys(count.reasons || {}).map(function (key) { return say(key) + " " + count.reasons[key]; });
    page.text(this.parts.counts, say("ok") + " " + count.ok + " · " + say("ng") + " " + count.ng + " · " + say("fault") +
      " " + count.fault + (all ? " · " + say("passed") + " " + (100 * count.ok / all).toFixed(1) + " %" : "") +
      (reasons.length ? " (" + reasons.join(", ") + ")" : "") +
      (count.uncounted ? " · " + count.uncounted + " " + say("not counted") : ""));
  };

  /* How old it is, by this browser's clock, whatever the server says; and whether the picture is that of the verdict. */
  page.Tile.prototype.age = function () {
    const is_other = Boolean(this.shown && (!this.state || !this.state.inspecting ||
      (this.verdict && this.verdict.seq !== this.shown.header.seq && page.ageMs(this.verdictMs) > OTHER_MS)));
    if (is_other !== this.view.classList.contains("other")) { this.view.classList.toggle("other", is_other); }
    const is_stale = page.isStale(this.heardMs);
    if (is_stale !== this.element.classList.contains("stale")) {
      this.elements.forEach(function (one) { one.classList.toggle("stale", is_stale); });
    }
    page.show(this.parts.age, is_stale);
    if (is_stale) {
      const s = page.ageMs(this.heardMs) / 1000;
      page.text(this.parts.age, say("stale") + (s < 1e6 ? " " + s.toFixed(0) + " s" : ""));
    }
  };

  /* The last verdicts as marks: calm and low for ok, tall for what is not, so that colour is not needed. */
  page.Tile.prototype.mark = function () {
    const canvas = this.marks;
    if (!canvas) { return; }
    const context = canvas.getContext("2d"), step = canvas.width / MARKS, height = canvas.height;
    context.clearRect(0, 0, canvas.width, height);
    this.recent.forEach(function (verdict, i) {
      const tall = verdict === "ok" ? 4 : height;
      context.fillStyle = verdict === "ok" ? "#7d8a92" : verdict === "ng" ? "#b93800" : "#c79a00";
      context.fillRect(i * step, height - tall, Math.max(2, step - 2), tall);
      if (verdict === "fault") { context.clearRect(i * step, height - 6, Math.max(2, step - 2), 2); }
    });
  };
})(window.inspectd);
