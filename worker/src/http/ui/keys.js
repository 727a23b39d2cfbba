// Task ids of keys of one's own, as `glyph task id` makes them.

import { Problem } from './api.js'

const isId = text => /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(text)
const hex = bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
const written = (bytes, version) => {
  bytes[6] = (bytes[6] & 0x0f) | (version << 4)
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** The task of an id or a key; of an empty text a new one. A key is UUIDv5 of `glyph:task:KEY` in the namespace of URLs. */
export async function taskOfKey(text) {
  if (text === '') return written(crypto.getRandomValues(new Uint8Array(16)), 4)
  if (isId(text)) return text.toLowerCase()
  if (!globalThis.crypto?.subtle) throw new Problem(0, 'no_crypto', 'A key can be looked up over HTTPS or on this machine only; paste the task id.')
  const namespace = Uint8Array.from('6ba7b8119dad11d180b400c04fd430c8'.match(/../g), byte => parseInt(byte, 16))
  const name = new TextEncoder().encode(`glyph:task:${text}`)
  const hash = await crypto.subtle.digest('SHA-1', new Uint8Array([...namespace, ...name]))
  return written(new Uint8Array(hash).slice(0, 16), 5)
}
