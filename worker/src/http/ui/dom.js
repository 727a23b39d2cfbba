// Elements, texts and times. Everything that a view shows is made here, as nodes and never as markup.

const SVG = 'http://www.w3.org/2000/svg'

/** An element with attributes, `on…` handlers and children; null and false children are left out. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children)
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) element[name] = value
    else if (name === 'share') element.style.setProperty('--share', value)
    else element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false))
  return element
}

/**
 * Makes `old` like `now` and keeps what the reader did with it: focus, open details, texts in fields,
 * scroll positions. Children are matched by `data-key`, others by their order.
 */
export function morph(old, now) {
  if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) {
    old.replaceWith(now)
    return
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== now.data) old.data = now.data
    return
  }
  for (const { name } of [...old.attributes]) {
    if (name !== 'open' && !now.hasAttribute(name)) old.removeAttribute(name)
  }
  for (const { name, value } of [...now.attributes]) {
    if (name === 'style') old.style.cssText = value
    else if (old.getAttribute(name) !== value && !(name === 'open' && old.localName === 'details')) old.setAttribute(name, value)
  }
  // A slider shows where the page is, also after somebody has moved it.
  if (old.type === 'range') old.value = now.value
  for (const name of ['onclick', 'onchange', 'oninput', 'onsubmit', 'onkeydown', 'ontoggle']) old[name] = now[name]
  const keyed = new Map()
  for (const child of old.children) if (child.dataset?.key) keyed.set(child.dataset.key, child)
  let at = old.firstChild
  for (const wanted of [...now.childNodes]) {
    const known = wanted.dataset?.key ? keyed.get(wanted.dataset.key) : null
    if (known) {
      if (known !== at) old.insertBefore(known, at)
      else at = at.nextSibling
      morph(known, wanted)
    } else if (at && !at.dataset?.key && !wanted.dataset?.key) {
      const next = at.nextSibling
      morph(at, wanted)
      at = next
    } else {
      old.insertBefore(wanted, at)
    }
  }
  while (at) {
    const next = at.nextSibling
    at.remove()
    at = next
  }
}

/** Shows `node` as the only content of `place`. */
export function show(place, node) {
  const wrapped = h(place.localName)
  for (const { name, value } of place.attributes) wrapped.setAttribute(name, value)
  wrapped.append(node)
  morph(place, wrapped)
}

const many = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

/** A count with separators. */
export const number = value => many.format(value)

/** A share as per cent. */
export function percent(value, digits = 0) {
  return value === null || value === undefined ? '–' : `${(value * 100).toFixed(digits)} %`
}

/** A duration in seconds, in its largest unit. */
export function duration(seconds) {
  if (seconds < 1) return '< 1 s'
  if (seconds < 90) return `${Math.round(seconds)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86400)} d`
}

let skew = 0

/** Times are told by the clock of the server. */
export function serverTime(text) {
  skew = Date.parse(text) - Date.now()
}

/** The clock of the server, in milliseconds. */
export const serverNow = () => Date.now() + skew

export const secondsSince = text => Math.max(0, (serverNow() - Date.parse(text)) / 1000)

/** A time as how long ago it was, with the exact one as its title. */
export function ago(text) {
  if (!text) return '–'
  return h('time', { datetime: text, title: exact(text) }, `${duration(secondsSince(text))} ago`)
}

/** A time as how long it has lasted. */
export function lasting(text) {
  return h('time', { datetime: text, title: `since ${exact(text)}` }, duration(secondsSince(text)))
}

/** A sentence of the engine: begins in capitals, ends with a stop, and what stands in backticks is code. */
export function prose(text) {
  const begins = /^[a-z]+[ ,;:]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text
  const whole = begins + (/[.!?…]$/.test(text) ? '' : '.')
  return coded(whole)
}

/** A text of the engine, in which code stands in backticks. */
export function coded(text) {
  return text.split('`').map((part, at) => (at % 2 === 1 ? h('code', null, part) : part))
}

/** A time in the zone of the reader. */
export function exact(text) {
  return new Date(text).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })
}

/** The first digits of an id. */
export const short = id => String(id).slice(0, 8)

export function taskLink(id, at) {
  return h('a', { href: `#/task/${id}${at ? `?at=${at}` : ''}`, class: 'id', title: id }, short(id))
}

export function personLink(id) {
  return h('a', { href: `#/people/${id}`, class: 'id', title: id }, short(id))
}

export function workflowLink(id, revision) {
  return h('a', { href: `#/workflow/${id}${revision ? `@${revision}` : ''}` }, revision ? `${id}@${revision}` : id)
}

/** A word with the colour of what it means; the word alone says it too. */
export function badge(word, tone) {
  return h('span', { class: `badge ${tone ?? tones[word] ?? ''}` }, String(word).replaceAll('_', ' '))
}

const tones = {
  running: 'info', completed: 'good', paused: 'warn', failed: 'bad', cancelled: 'dim', archived: 'dim', ready: 'good', active: 'info',
  done: 'good', stopped: 'warn', pending: 'info',
}

/** A table; `rows` are arrays of cells, `keys` name them across refreshes. */
export function table(caption, heads, rows, { keys, empty = 'Nothing here.', hideCaption = false } = {}) {
  if (rows.length === 0) return h('section', null, !hideCaption && h('h2', null, caption), h('p', { class: 'empty' }, empty))
  const numeric = heads.map(head => head.startsWith('#'))
  const cell = (content, at) => h('td', { class: numeric[at] ? 'number' : null, 'data-label': heads[at].replace('#', '') }, h('div', null, content))
  return h('section', null, !hideCaption && h('h2', null, caption), h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': caption },
    h('table', null,
      h('caption', { class: 'hidden' }, caption),
      h('thead', null, h('tr', null, heads.map((head, at) => h('th', { scope: 'col', class: numeric[at] ? 'number' : null }, head.replace('#', ''))))),
      h('tbody', null, rows.map((row, at) => h('tr', { 'data-key': keys?.[at] }, row.map(cell)))))))
}

/** A value as JSON, folded where it is long. */
export function json(value, label = 'JSON') {
  const text = JSON.stringify(value, null, 2) ?? 'null'
  if (text.length < 120 && !text.includes('\n')) return h('code', { class: 'json' }, text)
  return h('details', null, h('summary', null, label), h('pre', { class: 'json', tabindex: '0', role: 'group', 'aria-label': label }, text))
}

/** Says what has just happened. */
export function toast(text, tone = '') {
  const note = h('p', { class: `toast ${tone}` }, text, h('button', { class: 'quiet', 'aria-label': 'Dismiss', onclick: () => note.remove() }, '×'))
  document.getElementById('toasts').append(note)
  setTimeout(() => note.remove(), tone === 'bad' ? 12000 : 5000)
}

/** Asks in a dialog; `fields` are made by `field`. Resolves to their values, or null where it is left. */
export function ask(title, text, fields, action, { danger = false } = {}) {
  return new Promise(resolve => {
    const form = h('form', { method: 'dialog' },
      h('h2', { id: 'ask-title' }, title), text && h('p', null, text), fields,
      h('div', { class: 'actions' },
        h('button', { class: danger ? 'danger' : 'primary', value: 'do' }, action),
        h('button', { type: 'button', class: 'quiet', onclick: () => dialog.close('') }, 'Leave it')))
    const dialog = h('dialog', { 'aria-labelledby': 'ask-title' }, form)
    dialog.onclose = () => {
      dialog.remove()
      resolve(dialog.returnValue === 'do' ? Object.fromEntries(new FormData(form)) : null)
    }
    document.body.append(dialog)
    dialog.showModal()
  })
}

/** A field of a form with its label. */
export function field(label, name, { type = 'text', value = '', hint, required, rows, options, onchange } = {}) {
  const id = `field-${name}`
  const common = { id, name, required, onchange, 'aria-describedby': hint ? `${id}-hint` : null, spellcheck: 'false' }
  const input = options
    ? h('select', common, options.map(([option, text]) => h('option', { value: option, selected: option === value }, text)))
    : rows ? h('textarea', { ...common, rows }, value) : h('input', { ...common, type, value, autocomplete: 'off' })
  return h('div', { class: 'field' }, h('label', { for: id }, label), input, hint && h('small', { id: `${id}-hint` }, hint))
}

/** Gives the reader a file. */
export function save(name, type, ...parts) {
  const link = h('a', { href: URL.createObjectURL(new Blob(parts, { type })), download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60000)
}

/** A line through numbers, with its last value as a text beside it. */
export function sparkline(values, label) {
  const width = 160, height = 36
  const top = Math.max(...values, 1)
  const x = at => (values.length < 2 ? width : (at * width) / (values.length - 1))
  const points = values.map((value, at) => `${x(at).toFixed(1)},${(height - 2 - (value / top) * (height - 4)).toFixed(1)}`)
  return s('svg', { class: 'spark', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label, preserveAspectRatio: 'none' },
    s('polyline', { points: points.join(' '), class: 'line' }))
}

/** A bar of a share, with an interval where there is one. */
export function bar(share, low, high) {
  const clip = value => `${Math.min(Math.max(value ?? 0, 0), 1) * 100}%`
  const inner = h('span', { class: 'bar-fill', share: clip(share) })
  const whisker = low !== undefined && low !== null && h('span', { class: 'bar-range' })
  if (whisker) {
    whisker.style.setProperty('--from', clip(low))
    whisker.style.setProperty('--to', clip(high))
  }
  return h('span', { class: 'meter', 'aria-hidden': 'true' }, inner, whisker)
}
