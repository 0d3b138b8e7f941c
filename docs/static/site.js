// What the theme leaves out for those who use a keyboard or a reader.
addEventListener('DOMContentLoaded', () => {
  const all = (selector) => document.querySelectorAll(selector);
  all('[role=heading]:not([aria-level])').forEach((caption) => caption.setAttribute('aria-level', 2));
  all('aside.sidebar-drawer').forEach((side) => side.setAttribute('aria-label', 'All pages'));
  all('aside.toc-drawer').forEach((side) => side.setAttribute('aria-label', 'On this page'));
  all('pre, .table-wrapper, .sidebar-scroll, .toc-scroll').forEach((part) => part.setAttribute('tabindex', 0));
  all('th').forEach((cell) => {
    if (!cell.textContent.trim()) cell.replaceWith(document.createElement('td'));  // the corner of a table
  });
  if (!document.querySelector('h1')) {
    const title = document.createElement('h1');
    title.textContent = document.title.split(' - ')[0];
    document.querySelector('article, [role=main]').prepend(title);
  }
});
