// Times in the reader's zone, with UTC on hover; parts that are renewed while something goes on; choices that apply at once.
// Every page says the same without it.
"use strict";

const zoned = new Intl.DateTimeFormat("sv-SE", {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
});

function local(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    if (!time.title) {
      time.title = time.textContent;
      time.textContent = zoned.format(new Date(time.dateTime));
    }
  }
}

// Each part keeps its element, so that a screen reader hears what changes in it, and a focus inside goes on by its id.
async function renew(wait) {
  const parts = [...document.querySelectorAll("[data-live]")];
  if (parts.length === 0) {
    return;
  }
  await new Promise((done) => setTimeout(done, wait));
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) {
      throw new Error(answer.status);
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // And with them, as of when that is.
    for (const part of [...parts, document.getElementById("shown-at")]) {
      const now = page.getElementById(part.id);
      if (!now) {
        location.reload();
        return;
      }
      const focus = part.contains(document.activeElement) ? document.activeElement.id : "";
      const was = part.innerHTML;
      local(now);
      if (was !== now.innerHTML) {
        part.replaceChildren(...now.childNodes);
      }
      if (focus) {
        document.getElementById(focus)?.focus({ preventScroll: true });
      }
      part.toggleAttribute("data-live", now.hasAttribute("data-live"));
    }
    wait = 1000;
  } catch {
    // Whoever serves the page is away or has something else to say: ask again, less and less often.
    wait = Math.min(wait * 2, 15000);
  }
  renew(wait);
}

for (const choice of document.querySelectorAll("[data-apply]")) {
  choice.addEventListener("change", () => choice.form.requestSubmit());
}
local(document);
renew(1000);
