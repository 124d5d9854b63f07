(() => {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    [r, g, b].map((one) => one / 255).map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
      .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((one, other) => one - other);
    return (high + 0.05) / (low + 0.05);
  };
  const found = { looked: 0, pale: [] };
  const look = (element, least) => {
    const ratio = contrast(parse(getComputedStyle(element).color), ground(element));
    found.looked++;
    if (ratio < least) found.pale.push(`${element.localName}.${element.getAttribute("class")}: ${ratio.toFixed(2)}: ${element.textContent.trim().slice(0, 40)}`);
  };
  for (const element of document.body.querySelectorAll("*:not(template, script)")) {
    const text = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    // WCAG 2.2: 4.5 to 1 for text (1.4.3), 3 to 1 for what a graphic needs to be understood (1.4.11).
    if (text && element.checkVisibility()) look(element, 4.5);
    if (element.matches("svg.chip")) look(element, 3);
  }
  return found;
})()
