// Drawings, animations that can be stopped, and boxes that scroll by keyboard.

const files = document.currentScript.src.replace(/[^/]*$/, "");

function dark() {
  return document.documentElement.dataset.theme === "dark";
}

// Drawings: Mermaid is loaded where a page has one, and draws again when the theme changes.
function drawings() {
  const found = [...document.querySelectorAll("pre.mermaid")];
  if (!found.length) return;
  const narrow = window.innerWidth < 700; // there a drawing runs downwards
  const texts = found.map((drawing) =>
    narrow ? drawing.textContent.replace("flowchart LR", "flowchart TB") : drawing.textContent,
  );
  found.forEach((drawing) => drawing.setAttribute("tabindex", "0"));
  async function draw() {
    window.mermaid.initialize({
      startOnLoad: false,
      theme: dark() ? "dark" : "neutral",
      fontFamily: "system-ui, sans-serif",
      flowchart: { useMaxWidth: false },
    });
    found.forEach((drawing, i) => {
      drawing.removeAttribute("data-processed");
      drawing.textContent = texts[i];
    });
    await window.mermaid.run({ nodes: found });
    document.body.dataset.drawn = "yes";
  }
  const script = document.createElement("script");
  script.src = `${files}mermaid.js`;
  script.onload = () => {
    draw();
    new MutationObserver(draw).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
  };
  document.head.append(script);
}

// Animations: a button stops them, and who wants no motion gets the still strip first.
function animations() {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const figure of document.querySelectorAll("figure.animation")) {
    const image = figure.querySelector("img");
    const source = figure.querySelector("source");
    const [moving, strip] = [image.getAttribute("src"), source.getAttribute("srcset")];
    const size = [image.width, image.height];
    source.remove();
    const button = document.createElement("button");
    button.type = "button";
    figure.append(button);
    function show(stopped) {
      image.src = stopped ? strip : moving;
      image.classList.toggle("strip", stopped);
      if (stopped) ["width", "height"].forEach((name) => image.removeAttribute(name));
      else [image.width, image.height] = size;
      button.textContent = stopped ? "Play the animation" : "Stop the animation";
      button.onclick = () => show(!stopped);
    }
    show(still);
  }
}

// What is wider than the page scrolls in its own box; the keyboard must reach it.
function boxes() {
  const wide =
    "figure.picture, div.math, div.highlight pre, div.output pre, .scrolls, pre.mermaid, " +
    ".pst-scrollable-table-container";
  for (const box of document.querySelectorAll(wide)) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else if (box.matches(".scrolls, figure.picture")) box.removeAttribute("tabindex");
  }
}

drawings();
animations();
window.addEventListener("load", () => {
  boxes();
  window.MathJax?.startup?.promise?.then(boxes);
});
window.addEventListener("resize", boxes);
