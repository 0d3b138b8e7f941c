// What the theme leaves out for those who use a keyboard or a reader, and figures that stay on a line.
addEventListener('DOMContentLoaded', () => {
  const all = (selector) => document.querySelectorAll(selector);
  all('[role=heading]:not([aria-level])').forEach((caption) => caption.setAttribute('aria-level', 2));
  all('th').forEach((cell) => {
    if (!cell.textContent.trim()) cell.replaceWith(document.createElement('td'));  // the corner of a table
  });
  all('td').forEach((cell) => {
    if (/^[-+–\d.,;:/ p%[\]]+$/.test(cell.textContent.trim())) cell.classList.add('figures');
  });
  if (!document.querySelector('h1')) {
    const title = document.createElement('h1');
    title.textContent = document.title.split(' - ')[0];
    document.querySelector('article, [role=main]').prepend(title);
  }

  const reachWhatScrolls = () => all('pre, .table-wrapper, .sidebar-scroll, .toc-scroll').forEach((part) => {
    const scrolls = part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight;
    if (scrolls) part.setAttribute('tabindex', 0);
    else part.removeAttribute('tabindex');
  });

  // In a narrow window a menu lies beside it: an icon opens it, and what is out of sight takes no focus.
  const drawers = [['__navigation', 'aside.sidebar-drawer', 'All pages'], ['__toc', 'aside.toc-drawer', 'On this page']];
  const settle = drawers.map(([toggle, selector, name]) => {
    const open = document.getElementById(toggle), drawer = document.querySelector(selector);
    const icons = [...all(`label[for=${toggle}]:not(.overlay)`)].map((label) => {
      const icon = Object.assign(document.createElement('button'), {className: label.className, ariaLabel: name});
      icon.append(...label.childNodes);
      icon.addEventListener('click', () => open.click());
      label.replaceWith(icon);
      return icon;
    });
    const settle = () => {
      drawer.inert = getComputedStyle(drawer).position === 'fixed' && !open.checked;
      icons.forEach((icon) => icon.setAttribute('aria-expanded', open.checked));
    };
    drawer.setAttribute('aria-label', name);
    open.addEventListener('change', () => {
      settle();
      if (open.checked) drawer.querySelector('a, input').focus({preventScroll: true});
    });
    drawer.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !open.checked) return;
      open.click();
      icons.find((icon) => icon.checkVisibility()).focus();
    });
    return settle;
  });
  const settleAll = () => [reachWhatScrolls, ...settle].forEach((part) => part());
  ['load', 'resize'].forEach((event) => addEventListener(event, settleAll));
  settleAll();
});
