/* One camera on a page, on the wall or large: what is known of it, and since when. */
(function (page) {
  "use strict";

  const MARKS = 60;
  const say = page.say;

  page.Tile = function (name, element, elsewhere) {
    const find = function (selector) {
      return element.querySelector(selector) || (elsewhere && elsewhere.querySelector(selector));
    };
    this.name = name;
    this.elements = [element].concat(elsewhere || []);
    this.element = element;
    this.parts = {};
    ["state", "age", "verdict", "word", "reason", "figures", "advice", "counts"].forEach(function (part) {
      this.parts[part] = find("." + part);
    }, this);
    this.canvas = find("canvas.picture");
    this.none = find(".no-picture");
    this.marks = find("canvas.marks");
    this.state = null;
    this.verdict = null;
    this.shown = null;
    this.epoch = "";
    this.seq = 0;
    this.missed = 0;
    this.recent = [];
    this.heardMs = -Infinity;
  };

  page.Tile.prototype.take = function (update, atMs) {
    this.heardMs = Math.max(this.heardMs, atMs - update.age_ms);
    if (update.state) { this.state = update.state; }
    if (update.verdict) { this.verdict = update.verdict; }
    if (update.epoch !== this.epoch) { this.epoch = update.epoch; this.seq = 0; }
    this.missed = update.missed || 0;
    /* After a connection was lost everything comes again. */
    const seq = this.seq;
    const scores = (update.scores || []).filter(function (one) { return one[0] > seq; });
    scores.forEach(function (one) { this.recent.push(one[4]); this.seq = one[0]; }, this);
    this.recent.splice(0, this.recent.length - MARKS);
    this.write();
    if (scores.length) { this.mark(); }
    return scores;
  };

  page.Tile.prototype.show = function (shown, strength) {
    this.shown = shown;
    page.show(this.none, false);
    page.draw(this.canvas, shown, strength);
  };

  page.Tile.prototype.redraw = function (strength) {
    if (this.shown) { page.draw(this.canvas, this.shown, strength); }
  };

  /* The verdict is shown as long as it is one of a camera that inspects: else what holds is that it does not. */
  page.Tile.prototype.write = function () {
    const verdict = this.verdict, state = this.state;
    const is_inspecting = Boolean(state && state.inspecting);
    const kind = !is_inspecting ? "fault" : verdict ? verdict.verdict : "none";
    const reason = verdict && verdict.verdict === "fault" ? verdict.reason : null;
    const word = !state ? say("waiting") : !is_inspecting ? say("not inspecting") : verdict ? say(verdict.verdict) : "–";
    page.text(this.parts.word, word);
    page.text(this.parts.reason, is_inspecting ? (reason ? say(reason) : "") : say(state ? state.state : ""));
    this.element.setAttribute("data-verdict", state ? kind : "none");
    if (this.parts.verdict) { this.parts.verdict.setAttribute("data-verdict", state ? kind : "none"); }
    page.text(this.parts.state, state ? say(state.state) + (state.recipe ? " · " + state.recipe : "") : "");
    if (verdict) {
      page.text(this.parts.figures, say("score") + " " + page.number(verdict.score) + " / " + say("threshold") + " " +
        page.number(verdict.threshold) + (state && state.fps !== null ? " · " + page.number(state.fps, 3) + " " +
        say("pictures/s") : "") + (state && state.p99_ms !== null ? " · p99 " + page.number(state.p99_ms, 3) + " ms" : "") +
        (this.missed ? " · " + this.missed + " " + say("missed here") : ""));
    }
    page.text(this.parts.advice, this.advice());
  };

  /* An alarm in words: what is the case, and what to do about it. */
  page.alarmed = function (alarm) {
    return say(alarm.alarm) + ": " + alarm.detail.replace(/[.]?$/, ". ") + say(alarm.action);
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

  /* How old it is, by this browser's clock, whatever the server says. */
  page.Tile.prototype.age = function () {
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
