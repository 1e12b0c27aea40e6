(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const root = document.getElementById("viewer");
  const stage = root.querySelector(".stage");
  const slider = document.getElementById("viewer-slice");
  const place = document.getElementById("viewer-place");
  const play = document.getElementById("viewer-play");
  const panels = Array.from(root.querySelectorAll(".panel"));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const state = { plane: 0, mode: "side", other: false, playing: !still };
  const at = data.planes.map((plane) => plane.start);
  const sheets = data.planes.map(() => ({}));

  function sheet(role) {
    const cache = sheets[state.plane];
    if (!cache[role]) {
      cache[role] = new Image();
      cache[role].onload = draw;
      cache[role].src = data.planes[state.plane].sheets[role];
    }
    return cache[role];
  }

  const SQUARES = 8; // of a checkerboard along the longer side
  const pairs = () => state.mode === "difference" || state.mode === "checkerboard";
  const blinks = () => state.mode === "moving" || state.mode === "warped";

  // Which image a panel shows: its own, or in turn the two that blink.
  function shown(panel) {
    if (!blinks()) return panel.dataset.role;
    return state.other ? state.mode : "fixed";
  }

  // Draws the tile of an image over what is there.
  function paint(context, role, width, height) {
    const plane = data.planes[state.plane];
    const image = sheet(role);
    const x = (at[state.plane] % plane.columns) * width;
    const y = Math.floor(at[state.plane] / plane.columns) * height;
    if (!image.complete || !image.naturalWidth) return;
    context.drawImage(image, x, y, width, height, 0, 0, width, height);
  }

  // Draws the fixed image into or over another, so that the two compare.
  function combine(context, width, height) {
    context.save();
    if (state.mode === "difference") {
      context.globalCompositeOperation = "difference";
    } else {
      const size = Math.ceil(Math.max(width, height) / SQUARES);
      context.beginPath();
      for (let row = 0; row * size < height; row += 1) {
        for (let column = row % 2; column * size < width; column += 2) {
          context.rect(column * size, row * size, size, size);
        }
      }
      context.clip();
    }
    paint(context, "fixed", width, height);
    context.restore();
  }

  function drawPanel(panel) {
    const plane = data.planes[state.plane];
    const role = shown(panel);
    const canvas = panel.querySelector("canvas");
    const [width, height] = plane.tile;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    panel.style.setProperty("--ratio", plane.ratio);
    const context = canvas.getContext("2d");
    paint(context, role, width, height);
    if (pairs()) combine(context, width, height);
    const label = pairs() ? "Fixed and " + role + ", " + state.mode : data.names[role];
    canvas.setAttribute("aria-label", label + ", " + position());
    panel.querySelector("figcaption").textContent = label;
    panel.dataset.shown = role;
    panel.querySelectorAll("[data-edge]").forEach((span) => {
      span.textContent = plane.edges[Number(span.dataset.edge)] || "";
    });
  }

  function position() {
    const plane = data.planes[state.plane];
    if (!plane.axis) return plane.name;
    return plane.name + ", " + plane.axis + " = " + plane.slices[at[state.plane]];
  }

  function draw() {
    const plane = data.planes[state.plane];
    const single = plane.slices.length < 2;
    stage.dataset.mode = blinks() ? "blink" : pairs() ? "pairs" : "side";
    slider.parentElement.hidden = single;
    slider.max = plane.slices.length - 1;
    slider.value = at[state.plane];
    slider.setAttribute("aria-valuetext", position());
    place.textContent = single ? "" :
      plane.axis + " = " + plane.slices[at[state.plane]] + " of " + plane.total;
    play.hidden = !blinks();
    play.textContent = state.playing ? "Pause" : "Play";
    panels.forEach((panel, i) => {
      panel.hidden = (blinks() && i > 0) || (pairs() && panel.dataset.role === "fixed");
      if (!panel.hidden) drawPanel(panel);
    });
    if (blinks()) sheet(state.mode);
  }

  function move(by) {
    const last = data.planes[state.plane].slices.length - 1;
    at[state.plane] = Math.min(last, Math.max(0, at[state.plane] + by));
    draw();
  }

  root.addEventListener("change", (event) => {
    if (event.target.name === "plane") state.plane = Number(event.target.value);
    if (event.target.name === "mode") {
      state.mode = event.target.value;
      state.other = false;
    }
    draw();
  });
  slider.addEventListener("input", () => {
    at[state.plane] = Number(slider.value);
    draw();
  });
  play.addEventListener("click", () => {
    state.playing = !state.playing;
    draw();
  });
  stage.addEventListener("click", () => {
    if (!blinks()) return;
    state.playing = false;
    state.other = !state.other;
    draw();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, button, a");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      move(event.key === "ArrowRight" ? 1 : -1);
      event.preventDefault();
    }
  });
  setInterval(() => {
    if (!blinks() || !state.playing || document.hidden) return;
    state.other = !state.other;
    draw();
  }, 700);

  if (matchMedia("(max-width: 640px)").matches) {
    state.mode = "warped";
    root.querySelector("input[name=mode][value=warped]").checked = true;
  }
  root.classList.add("ready");
  draw();
})();
