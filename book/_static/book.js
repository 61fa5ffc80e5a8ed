// Large type for a projector: the button on each page, or the key P.
(function () {
  const root = document.documentElement, key = "projector";
  const keep = (on) => { try { localStorage.setItem(key, on ? "1" : ""); } catch (e) { /* a file:// page may have none */ } };
  const toggle = () => keep(root.classList.toggle(key));
  try { if (localStorage.getItem(key)) root.classList.add(key); } catch (e) { /* as above */ }
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "p" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) toggle();
  });
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("button.projector");
    if (button) button.addEventListener("click", toggle);
  });
})();
