// Holds the connection on which events come. A server that is silent for longer than a few pulses is gone, whatever the browser thinks.
import { root } from './api.js';

const kinds = ['alarm', 'state', 'fleet', 'action'];
const silence = 7000; // three pulses and a bit
const again = 2000;

// live calls onEvent for each event, and told with 'live' or 'lost' when that changes; restart is called to begin anew once it is lost.
export function live(onEvent, told, restart) {
  let source = null, timer = 0, heard = null;

  function rest() {
    source?.close();
    source = null;
    clearTimeout(timer);
  }
  function lost() {
    rest();
    told('lost', heard);
    timer = setTimeout(restart, again);
  }
  function hear() {
    clearTimeout(timer);
    timer = setTimeout(lost, silence);
    heard = new Date();
    told('live', heard);
  }
  return {
    rest, lost,
    start() {
      rest();
      source = new EventSource(root + '/events');
      timer = setTimeout(lost, silence);
      source.onerror = lost;
      source.addEventListener('pulse', hear);
      for (const kind of kinds) source.addEventListener(kind, e => { hear(); onEvent(kind, JSON.parse(e.data)); });
    },
  };
}
