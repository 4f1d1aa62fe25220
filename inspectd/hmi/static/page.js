/* What all pages share: words, the connection to the server, and how old everything is, by this browser's own clock.
   ES2015 without modules: panel PCs have the browsers of their year. One global, `inspectd`. */
(function () {
  "use strict";

  const body = document.body;
  const root = body.dataset.root;
  const words = JSON.parse(document.getElementById("words").textContent);
  const GONE_MS = Number(body.dataset.goneS) * 1000;
  const STALE_MS = 2000, SLEPT_MS = 1000;
  const AGAIN_MS = [500, 1000, 2000, 5000];

  const page = { root: root };
  let sleptMs = 0, wallMs = Date.now(), clockMs = performance.now();

  page.say = function (text) { return words[text] || text; };

  /* This browser's clock. The one that never goes back stands still while a tablet sleeps: how long that was is added,
     from the wall clock. A wall clock that is set forward makes everything look old for a moment, and not new. */
  page.now = function () {
    const wall = Date.now(), clock = performance.now(), slept = (wall - wallMs) - (clock - clockMs);
    wallMs = wall;
    clockMs = clock;
    if (slept > SLEPT_MS) { sleptMs += slept; }
    return clock + sleptMs;
  };
  page.number = function (value, digits) {
    return value === null || value === undefined ? "–" : String(Number(Number(value).toPrecision(digits || 4)));
  };
  page.text = function (element, text) { if (element && element.textContent !== text) { element.textContent = text; } };
  page.show = function (element, is) { if (element && element.hidden === is) { element.hidden = !is; } };
  page.local = function (at) {
    const date = new Date(at);
    const two = function (n) { return (n < 10 ? "0" : "") + n; };
    return two(date.getHours()) + ":" + two(date.getMinutes()) + ":" + two(date.getSeconds());
  };

  /* An alarm in words: what is the case, and what to do about it. */
  page.alarmed = function (alarm) {
    return page.say(alarm.alarm) + ": " + alarm.detail.replace(/[.]?$/, ". ") + page.say(alarm.action);
  };

  /* The banner: one sentence, the most urgent first. */
  const alert = document.getElementById("alert");
  page.alarm = function (text) {
    if (text) { page.text(alert, text); }
    page.show(alert, Boolean(text));
  };

  /* A moment is when something was true at the latest, on this browser's clock; -Infinity: never. */
  page.ageMs = function (moment) { return page.now() - moment; };
  page.isStale = function (moment) { return page.ageMs(moment) > STALE_MS; };

  /* The connection. `take(update, bytes, done)` gets one update; `done` must be called when it is on the page, and
     only then is the next one asked for. What arrives is at least as old as the time since the last answer was sent,
     less what the server held it for: so nothing that waited in a network looks new. */
  page.connect = function (query, take) {
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    let socket = null, tries = 0, answeredMs = 0, reachedMs = -Infinity, daemonMs = -Infinity, trouble = null;
    const begunMs = page.now();

    if (!("WebSocket" in window)) {
      page.alarm(page.say("This browser has no WebSocket, without which nothing here would be true. Use a newer one."));
      return;
    }

    function open() {
      answeredMs = page.now();
      socket = new WebSocket(scheme + location.host + root + "/feed" + query);
      socket.binaryType = "arraybuffer";
      socket.onmessage = function (event) { tries = 0; receive(this, event.data); };
      socket.onclose = function () {
        socket = null;
        if (tries > 0) { leaveIfForgotten(); }
        setTimeout(open, AGAIN_MS[Math.min(tries, AGAIN_MS.length - 1)]);
        tries += 1;
      };
    }

    /* What is wrong with the daemon itself: its cameras' alarms are on their tiles. */
    function writeAlarms(alarms) {
      const list = document.getElementById("daemon");
      if (!list) { return; }
      while (list.children.length > alarms.length) { list.removeChild(list.lastElementChild); }
      alarms.forEach(function (one, i) {
        if (!list.children[i]) { list.appendChild(document.createElement("li")); }
        page.text(list.children[i], page.alarmed(one));
      });
    }

    /* A session that is over cannot be told from a server that is: it is asked, and the page goes to its login. */
    function leaveIfForgotten() {
      const request = new XMLHttpRequest();
      request.open("GET", root + "/healthz");
      request.onload = function () {
        if (request.status === 200 && !JSON.parse(request.responseText).is_known) { location.reload(); }
      };
      request.send();
    }

    function receive(from, data) {
      const length = new DataView(data).getUint32(0, true);
      const update = JSON.parse(decode(new Uint8Array(data, 4, length)));
      const atMs = answeredMs + update.held_ms;
      reachedMs = atMs;
      trouble = update.trouble || null;
      if (update.daemon_age_ms !== undefined) { daemonMs = atMs - update.daemon_age_ms; }
      if (update.daemon) { writeAlarms(update.daemon.alarms || []); }
      take(update, { data: data, offset: 4 + length }, atMs, function () {
        if (from.readyState !== 1) { return; }
        answeredMs = page.now();
        from.send(JSON.stringify({ ack: update.n }));
      });
    }

    page.every(function () {
      const waitedMs = page.ageMs(begunMs);
      if (page.isStale(reachedMs)) {
        if (waitedMs > STALE_MS) {
          page.alarm(page.say("No connection to the server of this page. What is shown is old."));
        }
      } else if (page.ageMs(daemonMs) > GONE_MS) {
        if (waitedMs > GONE_MS) {
          page.alarm(page.say("The daemon is gone. Stop the line.") + (trouble ? " (" + trouble + ")" : ""));
        }
      } else {
        page.alarm(null);
      }
    });
    document.addEventListener("visibilitychange", page.tick);
    open();
  };

  /* What is done four times a second; at once when a tab comes to the front. */
  const often = [];
  page.every = function (task) { often.push(task); };
  page.tick = function () { often.forEach(function (task) { task(); }); };
  setInterval(page.tick, 250);

  function decode(bytes) {
    if (window.TextDecoder) { return new TextDecoder("utf-8").decode(bytes); }
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) {
      text += String.fromCharCode.apply(null, bytes.subarray(i, i + 8192));
    }
    return decodeURIComponent(escape(text));
  }

  window.inspectd = page;
})();
