// The drawing of a workflow, in the colours of the page: what waits at each step, and what went along each way.

import { h, number, s } from './dom.js'

/**
 * `text` is the drawing of the worker. `waits` has what stands at a step, as `{ count, title, bad }` by step;
 * `ways` what went from where to where, as `{ from, to, count, title }`.
 */
export function diagram(text, waits, ways) {
  // Its own colours are for a white sheet of paper, and the page may have no styles inside.
  const drawn = new DOMParser().parseFromString(text.replace(/<style>.*?<\/style>/s, ''), 'image/svg+xml').documentElement
  if (drawn.localName !== 'svg') return h('p', { class: 'empty' }, 'There is no drawing.')
  drawn.querySelector(':scope > rect')?.remove()
  drawn.querySelector('text.title')?.remove()
  const svg = document.importNode(drawn, true)
  const all = svg.querySelector(':scope > g')
  crop(svg, all)
  // Above everything else.
  all.append(...wayBadges(svg, ways), ...waitBadges(svg, waits))
  return h('div', { class: 'scroll diagram', tabindex: '0', role: 'group', 'aria-label': 'Drawing of the workflow' }, svg)
}

const BORDER = 20

/** Leaves out what only the title needed room for. */
function crop(svg, all) {
  const number = (element, name) => Number(element.getAttribute(name))
  const [across, down] = [[], []]
  for (const line of all.querySelectorAll('path')) line.getAttribute('d').match(/-?[\d.]+ -?[\d.]+/g)?.forEach(pair => pair.split(' ').forEach((value, at) => (at === 0 ? across : down).push(Number(value))))
  for (const box of all.querySelectorAll('rect')) {
    across.push(number(box, 'x'), number(box, 'x') + number(box, 'width'))
    down.push(number(box, 'y'), number(box, 'y') + number(box, 'height'))
  }
  for (const dot of all.querySelectorAll('circle')) down.push(number(dot, 'cy') - number(dot, 'r'))
  const [left, top] = [Math.min(...across) - BORDER, Math.min(...down) - BORDER]
  const [width, height] = [Math.max(...across) + BORDER - left, Math.max(...down) + BORDER - top]
  all.setAttribute('transform', `translate(${-left} ${-top})`)
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`)
  svg.setAttribute('width', String(width))
  svg.setAttribute('height', String(height))
}

const widthOf = label => 14 + label.length * 7

function badge(kind, x, y, label, title) {
  const width = widthOf(label)
  return s('g', { class: kind }, s('title', null, title),
    s('rect', { x: x - width / 2, y: y - 10, width, height: 20, rx: 10 }), s('text', { x, y: y + 4, 'text-anchor': 'middle' }, label))
}

function waitBadges(svg, waits) {
  const badges = []
  let shape = null
  for (const element of svg.querySelectorAll('.node, text.id')) {
    if (element.classList.contains('node')) {
      shape = element
      continue
    }
    const wait = waits.get(element.textContent)
    if (!wait || shape?.localName !== 'rect') continue
    const x = Number(shape.getAttribute('x')) + Number(shape.getAttribute('width'))
    badges.push(badge(`waits ${wait.bad ? 'bad' : ''}`, x, Number(shape.getAttribute('y')), number(wait.count), wait.title))
  }
  return badges
}

/** Where several lines lead from one step to another, the first has the number of all. */
function wayBadges(svg, ways) {
  for (const line of svg.querySelectorAll('path.edge')) line.setAttribute('stroke-width', '1.3')
  const badges = []
  // Arrows keep their size, however thick their line is.
  for (const [name, value] of Object.entries({ markerUnits: 'userSpaceOnUse', markerWidth: '11', markerHeight: '11' })) svg.querySelector('marker')?.setAttribute(name, value)
  const most = Math.max(1, ...ways.map(way => way.count))
  for (const { from, to, count, title } of ways) {
    const line = [...svg.querySelectorAll('path.edge')].find(path => path.dataset.from === from && path.dataset.to === to)
    if (!line || count === 0) continue
    line.setAttribute('stroke-width', (1.3 + 5 * Math.sqrt(count / most)).toFixed(1))
    line.classList.add('gone')
    badges.push(badge('went', Number(line.dataset.x), Number(line.dataset.y), number(count), title))
  }
  return badges
}
