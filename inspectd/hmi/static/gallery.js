/* Times as this browser's clock has them: the daemon's are UTC. */
(function (page) {
  "use strict";
  const offset = document.getElementById("offset");
  if (offset) { offset.value = String(new Date().getTimezoneOffset()); }
  Array.prototype.forEach.call(document.querySelectorAll("time"), function (one) {
    const at = one.getAttribute("datetime");
    if (at) { one.textContent = new Date(at).toLocaleDateString() + " " + page.local(at); }
  });
})(window.inspectd);
