(() => ({
  reduced: matchMedia("(prefers-reduced-motion: reduce)").matches,
  moving: document.getAnimations().length,
  cards: [...document.querySelectorAll(".rollout")].map((card) => ({
    title: card.querySelector("h2").textContent,
    state: card.dataset.state,
    sent: Number(card.querySelector(".sent").textContent),
    lost: Number(card.querySelector(".lost").textContent),
    rolling: card.querySelector("rect.band") !== null,
    pods: [...card.querySelectorAll(".pod")].map((pod) => ({
      name: pod.dataset.pod,
      new: pod.querySelector("svg").dataset.new === "true",
      station: pod.closest(".station").dataset.station,
      mark: pod.querySelectorAll("use")[1]?.getAttribute("href").slice(1) ?? "",
    })),
  })),
}))()
