/* The chart of scores with the threshold, drawn by uPlot where it is installed. */
(function (page) {
  "use strict";

  const MOST = 600;
  const EVERY_MS = 500;

  page.chart = function (place) {
    if (!window.uPlot) {
      page.text(place, page.say("The chart's library is not installed; the numbers are above."));
      return { add: function () {} };
    }
    const none = function () { return null; }; /* points without a line */
    const size = function () { return { width: Math.max(200, place.clientWidth), height: 180 }; };
    const point = function (colour, width) { return { show: true, size: width, fill: colour, stroke: colour }; };
    const options = Object.assign(size(), {
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { time: false } },
      axes: [{ size: 24 }, { size: 48 }],
      series: [
        {},
        { paths: none, points: point("#5d6b74", 4) },
        { paths: none, points: point("#b93800", 8) },
        { stroke: "#1c2226", width: 2, dash: [8, 4] },
      ],
    });
    let data = [[], [], [], []], epoch = "", drawnMs = -Infinity, is_due = false;
    const plot = new window.uPlot(options, data, place);
    window.addEventListener("resize", function () { plot.setSize(size()); });
    page.every(function () {
      if (!is_due || document.hidden || page.ageMs(drawnMs) < EVERY_MS) { return; }
      is_due = false;
      drawnMs = page.now();
      plot.setData(data);
    });
    return {
      add: function (from, scores) {
        if (from !== epoch) { epoch = from; data = [[], [], [], []]; is_due = true; }
        if (!scores.length) { return; }
        scores.forEach(function (one) {
          data[0].push(one[0]);
          data[1].push(one[4] === "ok" ? one[2] : null);
          data[2].push(one[4] === "ok" ? null : one[2]);
          data[3].push(one[3]);
        });
        data.forEach(function (column) { column.splice(0, column.length - MOST); });
        is_due = true;
      },
    };
  };
})(window.inspectd);
