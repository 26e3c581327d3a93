// Reads the page anew, and puts what has changed in its place: what is open stays open, what has the
// focus keeps it, and what the reader looks at stays where it is on the screen. Without this script the
// page is the same, and is read anew by the browser's own button.
"use strict";
(() => {
  const pause = document.getElementById("pause");
  const lost = document.getElementById("lost");
  let every = Number(document.body.dataset.refresh) * 1000;
  let typing = null, read = performance.now(), asking = null, timer = null, fails = 0;

  const since = (seconds) =>
    seconds < 5 ? "just now" : seconds < 120 ? `${Math.floor(seconds)} s ago`
      : seconds < 7200 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3600)} h ago`;

  // What the reader sees first, and where.
  function anchor() {
    const rows = document.querySelectorAll("tbody tr[id], section[id]");
    const row = [...rows].reverse().find((it) => it.getBoundingClientRect().top <= 80);
    return row && { id: row.id, top: row.getBoundingClientRect().top };
  }

  function replace(fresh) {
    const place = scrollY > 0 ? anchor() : null;
    const focus = document.activeElement;
    const key = focus && (focus.id || focus.getAttribute("href"));
    const parts = (of) => [...of.querySelectorAll("main > *")].map((it) => it.id).join();
    // What was not there before has nowhere to be put in.
    const whole = parts(document) !== parts(fresh) ? fresh.getElementById("main") : null;
    if (whole) document.getElementById("main").replaceWith(document.adoptNode(whole));
    for (const part of fresh.querySelectorAll(".fresh")) {
      const old = document.getElementById(part.id);
      for (const open of old.querySelectorAll("details[open]")) {
        const same = part.querySelector(`#${open.id}`);
        if (same) same.open = true;
      }
      if (old.outerHTML !== part.outerHTML) old.replaceWith(document.adoptNode(part));
    }
    document.title = fresh.title;
    if (key && !focus.isConnected) {
      const again = document.getElementById(key) ||
        [...document.links].find((link) => link.getAttribute("href") === key);
      if (again) again.focus({ preventScroll: true });
    }
    const now = place && document.getElementById(place.id);
    if (now) scrollBy(0, now.getBoundingClientRect().top - place.top);
    every = Number(fresh.body.dataset.refresh) * 1000;
    read = performance.now();
  }

  function isBusy() {
    return document.hidden || pause.getAttribute("aria-pressed") === "true" || !getSelection().isCollapsed;
  }

  async function look() {
    clearTimeout(timer);
    if (asking) asking.abort();
    const mine = asking = new AbortController();
    const late = setTimeout(() => mine.abort(), 20000);
    try {
      const answer = await fetch(location.href, { signal: mine.signal });
      const type = answer.headers.get("content-type") || "";
      if (!type.startsWith("text/html")) throw new Error(`${answer.status}`);
      const text = await answer.text();
      if (mine !== asking) return;
      replace(new DOMParser().parseFromString(text, "text/html"));
      fails = 0;
      lost.hidden = true;
    } catch {
      if (mine !== asking) return;
      fails += 1;
      if (fails > 1) tellLost();
    } finally {
      clearTimeout(late);
    }
    timer = setTimeout(() => (isBusy() ? wait() : look()), fails === 1 ? 2000 : every);
  }

  function wait() {
    timer = setTimeout(() => (isBusy() ? wait() : look()), 1000);
  }

  function tellLost() {
    const text = "The page has lost its server: docker ceph ui, or the way to it, has ended. What is shown here is old.";
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = false;
  }

  function tick() {
    const time = document.querySelector("#age time");
    if (!time) return;
    const seconds = Number(time.dataset.age) + (performance.now() - read) / 1000;
    time.textContent = since(seconds);
    time.closest(".age").classList.toggle("old", seconds > Math.max(60, 3 * every / 1000));
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) look();
  });
  document.addEventListener("visibilitychange", () => { if (!isBusy()) look(); });

  document.addEventListener("input", ({ target }) => {
    if (target.id !== "filter") return;
    clearTimeout(typing);
    typing = setTimeout(() => {
      const address = new URL(location.href);
      if (target.value) address.searchParams.set("q", target.value); else address.searchParams.delete("q");
      history.replaceState(null, "", address);
      look();
    }, 150);
  });

  setInterval(tick, 1000);
  timer = setTimeout(() => (isBusy() ? wait() : look()), every);
})();
