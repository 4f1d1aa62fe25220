/* What can be asked of the daemon. Every change says who and why; nothing is sent twice. */
(function (page) {
  "use strict";

  const camera = document.body.dataset.camera;
  const said = document.getElementById("said");
  const by = document.getElementById("by");
  const why = document.getElementById("why");
  const say = page.say;
  let is_busy = false;

  /* `name`: of a command, or the path of something else that is asked for. */
  page.ask = function (name, fields, done) {
    const is_urgent = name === "bypass" && fields.seconds === 0;
    if (is_busy && !is_urgent) { tell(say("Another request is under way. Wait for its end."), "bad"); return; }
    is_busy = true;
    tell("…", "");
    const request = new XMLHttpRequest();
    request.open("POST", page.root + (name.charAt(0) === "/" ? name : "/do/" + name));
    request.setRequestHeader("Content-Type", "application/json");
    request.timeout = 130000;
    const fail = function () { is_busy = false; 
      tell(say("No answer came. Whether it was done is not known: look at the page, or at the audit, before you do it again."), "bad");
    };
    request.onerror = fail;
    request.ontimeout = fail;
    request.onload = function () {
      is_busy = false;
      let reply = null;
      try { reply = JSON.parse(request.responseText); } catch (error) { reply = null; }
      if (reply && reply.ok) { tell(say("Done."), "good"); done(reply.result); return; }
      tell(reply && reply.message ? reply.message : request.status + " " + request.statusText, "bad");
      if (request.status === 401) { location.reload(); }
    };
    request.send(JSON.stringify(fields));
  };

  function tell(text, kind) {
    if (!said) { return; }
    said.setAttribute("data-kind", kind);
    page.text(said, text);
  }

  page.tell = tell;

  function signed(fields) {
    fields.camera = camera;
    if (by) { fields.by = by.value; }
    if (why && why.value) { fields.why = why.value; }
    return fields;
  }

  function on(name, act) {
    const form = document.querySelector('form[data-do="' + name + '"]');
    if (form) {
      form.addEventListener("submit", function (event) { event.preventDefault(); act(form, null); });
      Array.prototype.forEach.call(form.querySelectorAll("button[data-end],button[data-try],button[data-set]"), function (button) {
        button.addEventListener("click", function (event) { event.preventDefault(); act(form, button); });
      });
    }
    return form;
  }

  function value(form, name) { return form.elements[name].value.trim(); }
  function nothing() {}

  on("trigger", function (form) {
    const part = value(form, "part");
    page.ask("trigger", part ? { camera: camera, part: part } : { camera: camera }, nothing);
  });
  on("bypass", function (form, button) {
    const is_end = button && button.hasAttribute("data-end"), minutes = Number(value(form, "minutes"));
    if (!is_end && !(minutes > 0)) { tell(say("Say for how many minutes."), "bad"); return; }
    page.ask("bypass", signed({ seconds: is_end ? 0 : 60 * minutes }), nothing);
  });
  on("recipe", function (form) { page.ask("recipe", signed({ name: value(form, "name") }), nothing); });
  on("reset", function () {
    const fields = signed({});
    delete fields.camera;
    page.ask("reset", fields, nothing);
  });
  on("model", function (form) { page.ask("model", signed({ path: value(form, "path") }), nothing); });
  on("revert", function () { page.ask("revert", signed({}), nothing); });

  const mark = document.querySelector('form[data-do="mark"]');
  if (mark) {
    mark.addEventListener("click", function (event) {
      event.preventDefault();
      if (event.target.dataset.say) {
        page.ask("mark", signed({ epoch: mark.dataset.epoch, seq: Number(mark.dataset.seq), say: event.target.dataset.say }), nothing);
      }
    });
  }

  /* What a threshold would have done is shown before it can be set; only what was tried is set, and only over the
     threshold that was in force then. */
  let tried = null;
  const threshold = on("threshold", function (form, button) {
    const text = value(form, "value"), number = Number(text.replace(",", "."));
    const effect = form.querySelector(".effect"), set = form.querySelector("[data-set]");
    if (button && button.hasAttribute("data-set")) {
      if (tried && tried.text === text) {
        page.ask("threshold", signed({ value: tried.value, instead_of: tried.instead_of }), function () { set.disabled = true; });
      }
      return;
    }
    if (!text || isNaN(number)) { tell(say("Say a threshold: a number."), "bad"); return; }
    page.ask("threshold", { camera: camera, value: number, dry_run: true }, function (result) {
      const trial = result.trial;
      tried = { text: text, value: number, instead_of: result.threshold };
      set.disabled = value(form, "value") !== text;
      page.text(effect, !trial ? "" : say("of the last") + " " + trial.verdicts + " " + say("parts") + ": " + trial.rejected + " " +
        say("would be rejected that were accepted") + ", " + trial.passed + " " + say("would be accepted that were rejected") +
        " (ng " + trial.ng + " → " + trial.ng_then + ")");
    });
  });
  if (threshold) {
    threshold.elements.value.addEventListener("input", function () { threshold.querySelector("[data-set]").disabled = true; });
  }
})(window.inspectd);
