(() => {
  const scrolls = (element) => element && (getComputedStyle(element).overflowX !== "visible" || scrolls(element.parentElement));
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const element of document.body.querySelectorAll("*")) {
    const { left, right, width } = element.getBoundingClientRect();
    const out = width > 0 && (right > innerWidth + 0.5 || left < -0.5);
    if (out && !scrolls(element.parentElement) && !element.matches(".skip, .unseen")) found.push(`${element.localName}.${element.className}`);
    // A text that is wider than the box it stands in.
    const boxed = element.matches("button, .station span, .loss, h1, h2");
    if (boxed && element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0) found.push(`text in ${element.localName}: ${element.textContent}`);
  }
  return found;
})()
