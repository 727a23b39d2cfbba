// What people answered, side by side, with the differences marked; spans and boxes are drawn.

import { badge, h, json, personLink, s } from './dom.js'

const isObject = value => value !== null && typeof value === 'object' && !Array.isArray(value)
const isRegions = (value, ...keys) => Array.isArray(value) && value.length > 0 && value.every(one => isObject(one) && keys.every(key => typeof one[key] === 'number'))
const isSpans = value => isRegions(value, 'start', 'end')
const isBoxes = value => isRegions(value, 'x1', 'y1', 'x2', 'y2')
const isDrawn = value => isBoxes(value) || isPolygons(value)
const isPolygons = value => Array.isArray(value) && value.length > 0 && value.every(one => Array.isArray(one?.points))

/** Equal as JSON, whatever the order of keys. */
const canonical = value => JSON.stringify(value, (_, inner) =>
  isObject(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner)

/** The leaves of an answer by their path; regions stay whole. */
function leaves(value, path = '', found = new Map()) {
  if (isObject(value) && Object.keys(value).length > 0) {
    for (const [key, inner] of Object.entries(value)) leaves(inner, path ? `${path}.${key}` : key, found)
  } else {
    found.set(path, value)
  }
  return found
}

/** The answers of a visit as a table: a row a field, a column a person, and what came of it. */
export function sideBySide(annotations, result, input) {
  const answers = annotations.map(annotation => leaves(annotation.data ?? null))
  const paths = [...new Set(answers.flatMap(answer => [...answer.keys()]))]
  const outcome = isObject(result?.value) ? leaves(result.value) : null
  const single = outcome === null && paths.length === 1
  const rows = paths.map(path => {
    const values = answers.map(answer => answer.get(path))
    const counts = new Map()
    for (const value of values) counts.set(canonical(value), (counts.get(canonical(value)) ?? 0) + 1)
    const [first, second] = [...counts].sort((a, b) => b[1] - a[1])
    const differs = counts.size > 1
    // Where most say the same, the others are marked; where no answer leads, all are.
    const leads = differs && first[1] > second[1] ? first[0] : null
    const united = outcome?.get(path) ?? (single ? result?.value : undefined)
    // What stands side by side has one scale and one colour a tag.
    const about = { input, regions: [...values, united].filter(value => isSpans(value) || isDrawn(value)).flat() }
    return h('tr', { class: differs ? 'differs' : null },
      h('th', { scope: 'row' }, path || 'value', differs && h('span', { class: 'mark', title: 'The answers differ' }, ' ≠')),
      values.map(value => h('td', { class: differs && canonical(value) !== leads ? 'other' : null }, shown(value, about))),
      result && h('td', { class: 'result' }, united === undefined ? '–' : shown(united, about)))
  })
  const extra = annotations.some(annotation => annotation.decision)
  return h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Answers side by side' }, h('table', { class: 'side' },
    h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'Field'),
      annotations.map(annotation => h('th', { scope: 'col' }, personLink(annotation.user_id))), result && h('th', { scope: 'col' }, 'Result'))),
    h('tbody', null, rows,
      extra && h('tr', null, h('th', { scope: 'row' }, 'decision'), annotations.map(annotation => h('td', null, annotation.decision ? badge(annotation.decision) : '–')),
        result && h('td', { class: 'result' }, result.decision ? badge(result.decision) : '–')))))
}

/** One value: drawn where it is regions, as text otherwise. `about` has the input, and all regions that share a scale. */
export function shown(value, about) {
  if (value === undefined) return h('span', { class: 'dim' }, 'not given')
  if (value === null) return h('span', { class: 'dim' }, 'no value')
  if (isSpans(value)) return spans(value, textOf(about.input), about.regions ?? value)
  if (isDrawn(value)) return regions(value, about.regions ?? value)
  if (typeof value === 'string') return h('span', { class: 'text' }, value)
  if (typeof value !== 'object') return String(value)
  if (Array.isArray(value) && value.every(one => typeof one !== 'object')) return value.join(', ')
  return json(value)
}

/** The text that spans are about: `input.text`, or the longest text of the input. */
export function textOf(input) {
  if (typeof input === 'string') return input
  if (typeof input?.text === 'string') return input.text
  const texts = isObject(input) ? Object.values(input).filter(value => typeof value === 'string') : []
  return texts.sort((a, b) => b.length - a.length)[0]
}

function tones(tags) {
  const known = [...new Set(tags)].sort()
  return tag => `tone-${known.indexOf(tag) % 6}`
}

const tagOf = region => region.tag ?? region.label ?? ''

/** A text with its spans marked. Positions count code points, as the engine does. */
function spans(found, text, beside) {
  const tone = tones(beside.map(tagOf))
  if (typeof text !== 'string') {
    return h('ul', { class: 'plain' }, found.map(span => h('li', null, `${span.start}–${span.end} `, badge(tagOf(span), tone(tagOf(span))))))
  }
  const characters = [...text]
  const sorted = [...found].sort((a, b) => a.start - b.start || a.end - b.end)
  const parts = []
  let at = 0
  for (const span of sorted) {
    const start = Math.max(span.start, at)
    if (start >= span.end) {
      parts.push(h('small', { class: `tag ${tone(tagOf(span))}`, title: `${span.start}–${span.end}` }, `+ ${tagOf(span)}`))
      continue
    }
    parts.push(characters.slice(at, start).join(''))
    parts.push(h('mark', { class: tone(tagOf(span)), title: `${span.start}–${span.end}` }, characters.slice(start, span.end).join(''), tagOf(span) && h('small', { class: 'tag' }, tagOf(span))))
    at = span.end
  }
  parts.push(characters.slice(at).join(''))
  return h('p', { class: 'text spans' }, parts)
}

/** Boxes and polygons, drawn to scale; what they are on is not part of the task's data. */
function regions(found, beside) {
  const pointsOf = region => region.points ?? [[region.x1, region.y1], [region.x2, region.y1], [region.x2, region.y2], [region.x1, region.y2]]
  const points = beside.flatMap(pointsOf)
  const [left, top] = [Math.min(...points.map(point => point[0])), Math.min(...points.map(point => point[1]))]
  const [right, bottom] = [Math.max(...points.map(point => point[0])), Math.max(...points.map(point => point[1]))]
  const size = Math.max(right - left, bottom - top, 1e-9)
  const scale = value => (value * 220) / size
  const tone = tones(beside.map(tagOf))
  const name = region => `${tagOf(region)} ${pointsOf(region).map(point => point.join(', ')).join('; ')}`
  return s('svg', { class: 'regions', role: 'img', 'aria-label': `${found.length} regions`, viewBox: `-6 -6 ${scale(right - left) + 12} ${scale(bottom - top) + 12}` },
    found.map(region => s('polygon', { class: tone(tagOf(region)), points: pointsOf(region).map(point => `${scale(point[0] - left).toFixed(1)},${scale(point[1] - top).toFixed(1)}`).join(' ') },
      s('title', null, name(region)))),
    found.map(region => s('text', { x: scale(pointsOf(region)[0][0] - left) + 4, y: scale(pointsOf(region)[0][1] - top) + 14 }, tagOf(region))))
}
