/* Times as this browser's clock has them: the daemon's are UTC. */
(function (page) {
  "use strict";
  const filter = document.querySelector("form.filter");
  if (filter) {
    filter.addEventListener("submit", function () {
      ["since", "until"].forEach(function (name) {
        const text = filter.elements[name].value, date = new Date(text);
        filter.elements[name + "_utc"].value = text && !isNaN(date) ? date.toISOString() : "";
      });
    });
  }
  Array.prototype.forEach.call(document.querySelectorAll("time"), function (one) {
    const at = one.getAttribute("datetime");
    if (at) { one.textContent = new Date(at).toLocaleDateString() + " " + page.local(at); }
  });
})(window.inspectd);
