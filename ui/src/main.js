// SPDX-License-Identifier: Apache-2.0
// The page: one header, and one view at a time, chosen by the address after '#'.
import { signal } from '@preact/signals';
import { Component, render } from 'preact';
import { useEffect } from 'preact/hooks';
import { start } from './feed.js';
import { Header, notice, useDrop } from './header.js';
import { html } from './html.js';
import { Card } from './parts.js';
import { fetchSnapshot } from './snapshot.js';
import { connection, health, server } from './store.js';
import { colors, theme } from './theme.js';
import { Config } from './views/config.js';
import { Events } from './views/events.js';
import { Experts } from './views/experts.js';
import { Overview } from './views/overview.js';
import { Performance } from './views/performance.js';
import { Playground } from './views/playground.js';
import { Ranks, selectedRank } from './views/ranks.js';
import { Requests } from './views/requests.js';

const kViews = [['overview', 'Overview', Overview], ['ranks', 'Ranks', Ranks], ['experts', 'Experts', Experts], ['performance', 'Performance', Performance],
  ['requests', 'Requests', Requests], ['playground', 'Playground', Playground], ['config', 'Config', Config], ['events', 'Events', Events]];

const viewInAddress = () => kViews.find(([name]) => location.hash === `#/${name}`)?.[0] ?? 'overview';
const view = signal(viewInAddress());
addEventListener('hashchange', () => { view.value = viewInAddress(); });

function go(name, rank) {
  if (rank !== undefined) selectedRank.value = rank;
  location.hash = `#/${name}`;
}

// A view that breaks, on data that this page does not understand, must not take the page with it.
class Guard extends Component {
  constructor(props) {
    super(props);
    this.state = { error: null };
  }

  static getDerivedStateFromError(error) {
    return { error };
  }

  render({ children }, { error }) {
    if (!error) return children;
    return html`<${Card} title="This view failed"><p class="error" role="alert">${error.message}</p>
      <p class="hint">A snapshot of this page helps to find out why. <button type="button" onClick=${() => this.setState({ error: null })}>Try again</button></p><//>`;
  }
}

function Page() {
  useDrop();
  const dark = theme.value;
  useEffect(() => { colors(); }, [dark]);
  const model = server.value?.model;
  const { word } = health.value;
  useEffect(() => { document.title = model ? `${model} · ${word} · shoal` : 'shoal'; }, [model, word]);
  const View = kViews.find(([name]) => name === view.value)[2];
  return html`<a class="skip" href="#main" onClick=${event => { event.preventDefault(); document.getElementById('main').focus(); }}>Skip to the view</a>
    <${Header} views=${kViews} view=${view.value} />
    <main id="main" tabindex="-1" data-connection=${connection.value.state} data-view=${view.value}><${Guard} key=${view.value}><${View} go=${go} /><//></main>`;
}

function begin() {
  colors();
  render(html`<${Page} />`, document.getElementById('page'));
  const file = new URLSearchParams(location.search).get('file');
  if (!file) return start();
  return fetchSnapshot(file).catch(error => {
    notice.value = `The snapshot could not be shown. ${error.message}`;
    start();
  });
}
begin();
