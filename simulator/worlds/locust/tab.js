// Shows the page `fleet` below its tab's title in Locust's page, and the start form with the fleet's parameters open.
(() => {
  const frame = document.createElement("iframe");
  frame.src = "./fleet";
  frame.title = "Fleet";
  frame.style.cssText = "display: block; width: 100%; height: 60vh; border: 0";
  frame.addEventListener("load", () => {
    const page = frame.contentDocument;
    new ResizeObserver(() => (frame.style.height = `${page.body.offsetHeight}px`)).observe(page.body);
    dress();
  });

  function dress() {
    const light = getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).some((part) => part > 127);
    frame.contentDocument?.documentElement.classList.toggle("dark", !light);
  }

  function place() {
    const chosen = document.querySelector("[role=tablist] [aria-selected=true]");
    if (chosen?.textContent !== "Fleet") {
      frame.remove();
    } else if (!frame.isConnected) {
      (chosen.closest(".MuiContainer-root") ?? document.body).append(frame);
    } else {
      dress();
    }
    for (const closed of document.querySelectorAll("button[aria-expanded=false]:not([data-fleet])")) {
      if (closed.textContent === "Custom parameters") {
        closed.dataset.fleet = "";
        closed.click();
      }
    }
  }

  const here = new URL(location.href);
  if (!here.searchParams.has("tab")) {
    here.searchParams.set("tab", "fleet");
    history.replaceState(null, "", here);
  }
  new MutationObserver(place).observe(document.documentElement, { subtree: true, childList: true, attributes: true });
})();
